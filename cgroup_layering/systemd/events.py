# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a daemon hears of systemd, as a Protocol; `signals.py` is the one that listens on D-Bus.

Source: org.freedesktop.systemd1(5), "Signals" of the manager object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cgroup_layering.systemd.manager import Manager


class What(StrEnum):
    """What happened."""

    UNIT_NEW = "a unit was loaded"
    UNIT_REMOVED = "a unit was unloaded"
    UNIT_CHANGED = "a unit has another state"
    JOB_REMOVED = "a job is done"
    UNIT_FILES_CHANGED = "unit files were enabled, masked or linked"
    RELOADING = "a reload has begun"
    RELOADED = "a reload is done"
    CONNECTED = "systemd can be asked; what happened before was not seen"
    LOST = "systemd cannot be asked any more"
    READABLE = "the descriptor that is watched has something to read"
    MOMENT = "the moment that was asked for has come"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `state` is a unit's new ActiveState, or a job's result."""

    what: What
    unit: str = ""
    state: str = ""


Notice = Callable[[Event], None]


class Events(Protocol):
    """Waits for whatever happens and tells of it, one event at a time; sleeps in between, however long that is."""

    @property
    def manager(self) -> Manager | None:
        """systemd, over the connection that its signals come from; None while there is none."""

    def watch(self, descriptor: int) -> None:
        """Also tell when this descriptor has something to read."""

    def wake(self, seconds: float | None) -> None:
        """Tell of the moment in so many seconds, in place of the one asked for before; None for no moment."""

    def run(self, notice: Notice) -> None:
        """Connect and tell of everything until `stop`; a connection that is lost is made again."""

    def stop(self) -> None:
        """Let `run` return; may be called from a signal handler."""
