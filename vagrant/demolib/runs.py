# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demo service on one VM: plain and layered, before and after restarts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from demolib.guest import DemoError, Guest

ROOT = Path(__file__).resolve().parents[2]
UNIT = "hello.service"
FOLDER = "/usr/local/lib/hello"
FILES = ("/var/lib/hello/data", "/dev/shm/hello")  # noqa: S108 - the service's file and its tmpfs
RESTARTS = 10
PLAIN_BELOW, LAYERED_ABOVE = 0.05, 0.99


@dataclass(frozen=True)
class Run:
    """Bytes charged to the service's own entity, and who pays for its pages after the restarts."""

    entity: str
    first_bytes: int
    after_bytes: int
    owners: dict[str, dict[str, int]]
    """By file, then by cgroup: pages."""

    @property
    def share(self) -> float:
        """How much of what the first start was charged for the entity still pays for."""
        return self.after_bytes / self.first_bytes if self.first_bytes else 0.0

    def as_json(self) -> dict[str, float]:
        """For build/demo.json."""
        return {
            "first_bytes": self.first_bytes,
            "after_bytes": self.after_bytes,
            "share": round(self.share, 4),
        }


@dataclass(frozen=True)
class Result:
    """What one VM showed."""

    suite: str
    systemd: str
    kernel: str
    plain: Run
    layered: Run

    @property
    def shown(self) -> bool:
        """Whether the figures show what the demonstration is about."""
        return self.plain.share < PLAIN_BELOW and self.layered.share > LAYERED_ABOVE

    def as_json(self) -> dict[str, object]:
        """For build/demo.json."""
        return {
            "suite": self.suite,
            "systemd": self.systemd,
            "kernel": self.kernel,
            "plain": self.plain.as_json(),
            "layered": self.layered.as_json(),
        }


def demonstrate(suite: str, package: Path, tracking: str) -> Result:
    """Everything on one VM, which is brought back to its clean snapshot first. Raises DemoError."""
    guest = Guest(suite)
    guest.restore()
    kernel, systemd = guest.run("uname -r; systemctl --version | sed -n '1s/^systemd \\([^ ]*\\).*/\\1/p'").split()
    guest.say(f"systemd {systemd}, Linux {kernel}")
    _install(guest, package)
    plain = _run(guest, "plain", lambda: UNIT)
    guest.say("plain: stop the service, remove what it left, drop caches")
    guest.run(f"systemctl stop {UNIT} && {FOLDER}/persist cleanup")
    options = f"--tracking={tracking}" + (" --accept-oom-policy-loss" if tracking == "service" else "")
    guest.say(f"cgroup-layering enable --now {options} {UNIT}")
    guest.run(f"cgroup-layering enable --now {options} {UNIT}")
    layered = _run(guest, "layered", lambda: _layer(guest))
    return Result(suite, systemd, kernel, plain, layered)


def _install(guest: Guest, package: Path) -> None:
    guest.say(f"install {package.name} and the demo service")
    guest.push(package, f"/root/{package.name}")
    guest.run(
        f"DEBIAN_FRONTEND=noninteractive apt-get -qq -y install /root/{package.name} && mkdir -p {FOLDER}",
        timeout=600,
    )
    for file in (
        ROOT / "vagrant/workload/persist",
        ROOT / "vagrant/workload/measure",
        ROOT / "tests/vm/pagereader.py",
    ):
        guest.push(file, f"{FOLDER}/{file.name}")
    guest.push(ROOT / "vagrant/workload" / UNIT, f"/etc/systemd/system/{UNIT}")
    guest.say("make the 64 MiB file that the service reads, and drop caches")
    guest.run(f"systemctl daemon-reload && {FOLDER}/persist setup")


def _layer(guest: Guest) -> str:
    """The slice that the service's process really runs in, read from cgroupfs and not from settings."""
    cgroup = guest.run(f"systemctl show --value --property=ControlGroup {UNIT}").strip()
    slice_name = cgroup.rpartition("/")[0].rpartition("/")[2]
    if UNIT not in slice_name:
        raise DemoError(f"On {guest.suite}, {UNIT} runs in {cgroup}, which is not a layer of its own.")
    return slice_name


def _run(guest: Guest, name: str, find_entity: Callable[[], str]) -> Run:
    """Start, measure, restart ten times, measure."""
    guest.run(f"systemctl start {UNIT}")
    entity = find_entity()
    first = _measure(guest, entity)
    guest.say(f"{name}: {entity} is charged {first / 1e6:.1f} MB after the first start")
    command = f"for n in $(seq {RESTARTS}); do systemctl restart {UNIT} || exit; echo $n; done"
    for number in guest.lines(command, timeout=900):
        guest.say(f"{name}: restart {number} of {RESTARTS}")
    after = _measure(guest, entity)
    guest.say(f"{name}: {entity} is charged {after / 1e6:.1f} MB after {RESTARTS} restarts")
    pages = json.loads(guest.run(f"python3 {FOLDER}/pagereader.py --json {' '.join(FILES)}"))
    owners = {file["path"]: file["owners"] for file in pages}
    for path, by_cgroup in owners.items():
        guest.say(f"{name}: {path}: " + ", ".join(f"{count} pages in {cgroup}" for cgroup, count in by_cgroup.items()))
    return Run(entity, first, after, owners)


def _measure(guest: Guest, entity: str) -> int:
    found = json.loads(guest.run(f"{FOLDER}/measure {entity}"))
    return int(found["bytes"])
