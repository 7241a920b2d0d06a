# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a behaviour is, and what it can do in the guest: runs there, and is read by the tests on the host.

Each behaviour runs three times, with units of its own each time: plain, layered with tracking `instance`, layered with
tracking `service`. In names and files @V@ stands for the run.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RUNS = ("plain", "instance", "service")
TRACKINGS = RUNS[1:]
OPTIONS = {
    "instance": ("--tracking=instance",),
    "service": ("--tracking=service", "--accept-oom-policy-loss"),
}
"""How the program is told which tracking is wanted."""

TAGS = {"plain": "fidp", "instance": "fidi", "service": "fids"}
"""What @V@ becomes: words that are in nothing else, so that they can be taken out again."""

_BY_CHANCE = ("Killing process", "Consumed ")
"""Lines that come and go in plain runs too: whom systemd still finds to kill after the kernel, and what a unit used,
which it says from a second of CPU on (src/core/unit.c, unit_log_resources)."""
CGROUPS = Path("/sys/fs/cgroup")
Observation = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """What is known to differ from plain: exactly these keys of the observation, and why, in a sentence."""

    keys: frozenset[str]
    sentence: str


@dataclass(frozen=True)
class Behaviour:
    """One behaviour: `files` under /etc/systemd/system, `layered` the services of them that get a layer.

    `expect` is what the plain run must show, else nothing was proven. `only_instance` says why there is no `service`
    run; `needs` gives the reason why this host can't show the behaviour, or nothing; `since` is systemd's release.
    """

    name: str
    files: Mapping[str, str]
    observe: Callable[[Run], Observation]
    expect: Mapping[str, Any]
    layered: tuple[str, ...] = ()
    differs: Mapping[str, Difference] = field(default_factory=dict)
    only_instance: str = ""
    since: int = 0
    needs: Callable[[], str] = lambda: ""

    def __str__(self) -> str:
        return self.name

    def services(self, run: str) -> tuple[str, ...]:
        """The services that are layered in a run."""
        names = self.layered or tuple(name for name in self.files if name.endswith(".service"))
        return tuple(named(name, run) for name in names)

    def missing(self, version: int) -> str:
        """Why this host can't show the behaviour, or nothing."""
        if version < self.since:
            return f"systemd has it since {self.since}."
        return self.needs()


class Run:
    """One run of a behaviour."""

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.begin = f"@{time.time():.6f}"

    def name(self, unit: str) -> str:
        """The name of a unit in this run."""
        return named(unit, self.variant)

    def stem(self, unit: str) -> str:
        """What %N is in a unit."""
        return self.name(unit).rpartition(".")[0]

    def common(self, text: str) -> str:
        """A text with V for the name of the run."""
        return text.replace(TAGS[self.variant], "V")

    def systemctl(self, verb: str, *units: str, check: bool = True) -> int:
        """`systemctl VERB UNIT...`; the exit code."""
        done = sh(["systemctl", verb, *map(self.name, units)], check=check)
        return done.returncode

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        return show(self.name(unit), *names)

    def state(self, unit: str, *more: str) -> Observation:
        """How a unit is, and how many tasks are left of it."""
        # One call for all that is asked of systemd: under emulation each costs a good part of a second.
        found: Observation = dict(self.show(unit, "ControlGroup", "ActiveState", "SubState", "Result", *more))
        cgroup = found.pop("ControlGroup")
        return found | {"tasks left": len(tasks(CGROUPS / cgroup.lstrip("/"))) if cgroup else 0}

    def cgroup(self, unit: str) -> Path:
        """The cgroup of a unit, by its ControlGroup, or where its next start would put it."""
        shown = self.show(unit, "ControlGroup", "Slice")
        if shown["ControlGroup"]:
            return CGROUPS / shown["ControlGroup"].lstrip("/")
        return CGROUPS / show(shown["Slice"], "ControlGroup")["ControlGroup"].lstrip("/") / self.name(unit)

    def outer(self, unit: str) -> str:
        """The unit whose limits are the service's as seen from outside: its layer, or itself when plain."""
        return self.name(unit) if self.variant == "plain" else self.show(unit, "Slice")["Slice"]

    def outer_cgroup(self, unit: str) -> Path:
        """The cgroup of `outer`."""
        return self.cgroup(unit) if self.variant == "plain" else self.cgroup(unit).parent

    def processes(self, unit: str) -> list[int]:
        """The processes in a unit's cgroup and below it."""
        return tasks(self.cgroup(unit))

    def commands(self, unit: str) -> list[str]:
        """The names of the processes of a unit."""
        return sorted(filter(None, (read(Path(f"/proc/{pid}/comm")) for pid in self.processes(unit))))

    def await_command(self, unit: str, name: str) -> None:
        """Wait until a Type=simple service has executed `name`: it is up before that, with systemd's root and words."""
        wait(lambda: self.commands(unit) == [name], 20)

    def await_state(self, unit: str, *states: str, seconds: float = 60) -> str:
        """Wait until a unit is in one of the states; the state it is in then."""
        wait(lambda: self.show(unit, "ActiveState")["ActiveState"] in states, seconds)
        return self.show(unit, "ActiveState")["ActiveState"]

    def journal(self, unit: str) -> list[str]:
        """What the journal has of a unit since the run began, without what differs from run to run."""
        sh(["journalctl", "--sync"])
        out = sh(["journalctl", "-q", "--no-pager", "-o", "json", "-S", self.begin, "-u", self.name(unit)]).stdout
        lines = (json.loads(line)["MESSAGE"] for line in out.splitlines())
        told = [normal(line, self.variant) for line in lines if isinstance(line, str)]
        return list(dict.fromkeys(line for line in told if not any(words in line for words in _BY_CHANCE)))


def named(text: str, variant: str) -> str:
    """A name or a text with @V@ replaced."""
    return text.replace("@V@", TAGS[variant])


def normal(line: str, variant: str) -> str:
    """A line of the journal without numbers, times and the name of the run."""
    line = line.replace(TAGS[variant], "V")
    line = re.sub(r"pid=\d+|PID \d+|process \d+|: +\d+ Killed", "process N", line)
    return re.sub(r"\[\d+\]|\b\d{3,}\b", "N", line)


def sh(command: list[str] | str, check: bool = True, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command, or a line of shell; a failure carries what it said."""
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        executable="/bin/bash" if isinstance(command, str) else None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0 or not check, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def show(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit."""
    out = sh(["systemctl", "show", "-p", ",".join(names), unit]).stdout
    return dict(line.split("=", 1) for line in out.splitlines())


def read(path: Path) -> str:
    """The text of a file, stripped; empty if it is gone."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def tasks(cgroup: Path) -> list[int]:
    """The processes in a cgroup and below it; a cgroup can go while it is read."""
    return [int(word) for file in cgroup.rglob("cgroup.procs") for word in read(file).split()]


def add_swap(mebibytes: int) -> None:
    """Have a swap file, if there is none yet."""
    file = Path("/var/tmp/fidelity.swap")
    if not file.exists():
        sh(f"dd if=/dev/zero of={file} bs=1M count={mebibytes} status=none && chmod 600 {file}")
        sh(f"mkswap -q {file} && swapon {file}")


def nothing() -> None:
    """What a group does that needs no preparation."""


def keyed(path: Path) -> dict[str, int]:
    """A file of lines `key number`, such as memory.events."""
    return {key: int(number) for key, number in (line.split() for line in read(path).splitlines())}


def wait(until: Callable[[], object], seconds: float = 60) -> bool:
    """Wait until something is true; whether it became so."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def version() -> int:
    """systemd's release."""
    return int(sh(["systemctl", "--version"]).stdout.split()[1])
