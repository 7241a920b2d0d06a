# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the lab keeps things, and what its environment variables say."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
# A second lab beside the first needs a name and a cache of its own.
NAMESPACE = os.environ.get("CGROUP_LAYERING_NAMESPACE") or "cgroup-layering"


class LabError(Exception):
    """Something that stops the lab, told in one sentence."""


@dataclass(frozen=True)
class Guest:
    """One machine of the lab: its release's code name, and the address that the network gives to its MAC."""

    suite: str
    mac: str
    address: str

    @property
    def domain(self) -> str:
        """The machine's name in libvirt, as vagrant-libvirt makes it from its prefix."""
        return f"cgroup-layering_{self.suite}"


GUESTS = {
    suite: Guest(suite, f"52:54:00:c6:00:{number:02x}", f"192.168.121.{number}")
    for number, suite in ((12, "bookworm"), (13, "trixie"), (14, "forky"))
}
SUITES = tuple(GUESTS)


def cache() -> Path:
    """The lab's folder for all that outlives a command: boxes, disks, snapshots, the ssh key, logs."""
    own = os.environ.get("CGROUP_LAYERING_CACHE")
    if own:
        return Path(own).resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cgroup-layering"


def runtime() -> Path:
    """The lab's folder for sockets and pids; short, as a socket's path may have 107 bytes."""
    return Path("/run") / NAMESPACE


def log_file(name: str) -> Path:
    """The file that takes the output of the step `name`."""
    folder = cache() / "log"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.log"


def ssh_key() -> Path:
    """The lab's private ssh key."""
    return cache() / "ssh" / "key"


def vagrant_home() -> Path:
    """VAGRANT_HOME of the lab: its boxes are there."""
    return cache() / "vagrant.d"


def memory_mib() -> int:
    """Memory of each guest, in MiB (CGROUP_LAYERING_MEMORY)."""
    return _number("CGROUP_LAYERING_MEMORY", 1536)


def cpus() -> int:
    """Processors of each guest (CGROUP_LAYERING_CPUS)."""
    return _number("CGROUP_LAYERING_CPUS", 2)


def public_box(suite: str) -> str | None:
    """Name of a public box to use for `suite` in place of one built here (CGROUP_LAYERING_BOX_SUITE)."""
    return os.environ.get(f"CGROUP_LAYERING_BOX_{suite.upper()}") or None


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or int(text) == 0:
        raise LabError(f"{variable} is {text!r}; it must be a whole number above 0.")
    return int(text)
