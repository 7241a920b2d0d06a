# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the rest of the program asks of systemd, as a Protocol; `bus.py` is the one that speaks D-Bus.

Source: org.freedesktop.systemd1(5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cgroup_layering.errors import CgroupLayeringError

UNIT = "org.freedesktop.systemd1.Unit"
SERVICE = "org.freedesktop.systemd1.Service"
SLICE = "org.freedesktop.systemd1.Slice"
SOCKET = "org.freedesktop.systemd1.Socket"

Properties = Mapping[str, object]


class BusError(CgroupLayeringError):
    """A D-Bus call failed; `name` is the D-Bus error's name, `call` what was asked."""

    def __init__(self, call: str, name: str, message: str) -> None:
        super().__init__(call, name, message)
        self.call = call
        self.name = name
        self.message = message

    def __str__(self) -> str:
        return f"systemd refused {self.call}: {self.message.rstrip('.')}."


class BusTimeout(BusError):
    """No answer came within the timeout (seconds)."""

    hint = (
        "Look at the load of the host and at `systemctl status dbus`, then try again, or with SYSTEMD_BUS_TIMEOUT=5min."
    )

    def __init__(self, call: str, timeout: float) -> None:
        super().__init__(call, "org.freedesktop.DBus.Error.Timeout", f"no answer within {timeout:g} s")
        self.timeout = timeout

    def __str__(self) -> str:
        return f"systemd did not answer {self.call} within {self.timeout:g} s."


class BusLost(BusError):
    """The connection went away, and no other could be made, or the call must not be sent twice."""

    hint = "Look at `systemctl status dbus`; `cgroup-layering status` shows what is layered and what is pending."

    def __init__(self, call: str) -> None:
        super().__init__(call, "org.freedesktop.DBus.Error.Disconnected", "the connection is lost")

    def __str__(self) -> str:
        return f"The connection to systemd was lost, and {self.call} was not answered."


@dataclass(frozen=True, slots=True)
class UnitRow:
    """One row of ListUnits; `job` is the type of a queued job, or empty."""

    name: str
    load_state: str
    active_state: str
    sub_state: str
    job: str = ""


@dataclass(frozen=True, slots=True)
class UnitFileRow:
    """One row of ListUnitFiles: the file and its enablement state."""

    path: Path
    state: str

    @property
    def name(self) -> str:
        """The unit's name."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class Reading:
    """systemd's last reading of all unit files, and what holds for units whose files don't say."""

    realtime: float
    """When it began, in seconds since 1970; 0 where systemd does not say."""
    monotonic: float
    """The same by CLOCK_MONOTONIC, which nobody sets."""
    outdated: bool
    """Whether links to unit files were made or removed since, so that every unit needs a daemon-reload."""
    oom_policy: str
    """DefaultOOMPolicy= of systemd-system.conf(5)."""


@dataclass(frozen=True, slots=True)
class Transient:
    """A service to run once; see org.freedesktop.systemd1(5), "Properties" of services.

    It has what every unit of ours inside a layer must have: MemoryAccounting=no, no Memory* setting, no Delegate= and
    CollectMode=inactive-or-failed. One member with memory accounting would switch the controller on for the service.
    """

    name: str
    description: str
    slice: str
    argv: tuple[str, ...]
    type: str = "oneshot"
    before: tuple[str, ...] = ()
    timeout_seconds: float = 90.0
    """How long its start may take."""


@dataclass(frozen=True, slots=True)
class TransientTimer:
    """A command that systemd runs once, `seconds` from now, unless the timer is stopped before."""

    name: str
    """Of both units, without their suffixes."""
    description: str
    argv: tuple[str, ...]
    seconds: float

    @property
    def timer(self) -> str:
        """The timer's unit."""
        return f"{self.name}.timer"

    @property
    def service(self) -> str:
        """The unit that the command runs in."""
        return f"{self.name}.service"


class Manager(Protocol):
    """systemd's system manager; every method raises BusError or BusTimeout."""

    def version(self) -> int:
        """The major version, such as 252."""

    def unit_path(self) -> tuple[Path, ...]:
        """The folders of unit files, first wins."""

    def default_memory_accounting(self) -> bool:
        """DefaultMemoryAccounting= of systemd-system.conf(5)."""

    def reading(self) -> Reading:
        """When systemd last read all unit files."""

    def unit_files(self, pattern: str) -> list[UnitFileRow]:
        """All installed unit files whose name matches the glob."""

    def units(self, pattern: str) -> list[UnitRow]:
        """All loaded units whose name matches the glob."""

    def load(self, names: Iterable[str]) -> list[UnitRow]:
        """Load the named units, without starting them; a row each, under the name that was given."""

    def properties(self, units: Iterable[str], interface: str, names: Iterable[str]) -> dict[str, dict[str, object]]:
        """The named properties of each unit; a property that systemd does not have is left out."""

    def reload(self) -> None:
        """daemon-reload; returns when done."""

    def enqueue(self, verb: str, units: Iterable[str], mode: str = "replace") -> dict[str, int | BusError]:
        """Queue a job (`start`, `stop`, `restart`, `try-restart`) for each unit: job ids, or why not."""

    def jobs(self) -> dict[int, str]:
        """The queued jobs: id to unit."""

    def reset_failed(self, unit: str) -> None:
        """Forget a failed state, so that start limits don't hold back the next start."""

    def start_transient(self, unit: Transient) -> None:
        """Make the unit and queue its start; returns when it is queued."""

    def start_timer(self, timer: TransientTimer) -> None:
        """Make a timer and its service, and queue the timer's start; returns when it is queued."""
