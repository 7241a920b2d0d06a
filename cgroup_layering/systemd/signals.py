# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd's signals over D-Bus, GLib's main loop around them: the Events protocol."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

from gi.repository import Gio, GLib

from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.systemd.bus import SystemdBus
from cgroup_layering.systemd.connecting import connect_apart
from cgroup_layering.systemd.events import Event, Notice, What
from cgroup_layering.systemd.manager import UNIT
from cgroup_layering.systemd.objectpath import unit_of
from cgroup_layering.systemd.sparing import bare

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = f"{_NAME}.Manager"
_MEMBERS = ("UnitNew", "UnitRemoved", "JobRemoved", "UnitFilesChanged", "Reloading")
RETRY = 1.0
"""Seconds before a lost connection is made again; twice as long each time that fails, up to RETRY_MOST."""
RETRY_MOST = 60.0
_COARSE = 10.0
"""Moments further away than this (seconds) may be a second late, so that GLib can wake up for several at once."""


@contextlib.contextmanager
def _woken_by_signals() -> Iterator[None]:
    """A signal ends GLib's waiting: Python runs the handlers only when it is back from there."""
    end, start = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    source = GLib.io_add_watch(end, GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN, lambda *_: bool(os.read(end, 4096)))
    before = signal.set_wakeup_fd(start)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        GLib.source_remove(source)
        os.close(start)
        os.close(end)


class SystemdSignals:
    """Tells of systemd's signals, of one descriptor and of one moment."""

    def __init__(self, connect: Callable[[], SystemdBus] = connect_apart, retry: float = RETRY) -> None:
        self._connect = connect
        self._retry = self._wait = retry
        self._stopped = False
        self._bus: SystemdBus | None = None
        self._ready = False
        self._timer = self._watching = 0
        self._notice: Notice = lambda _event: None

    @property
    def manager(self) -> SystemdBus | None:
        """systemd, while it can be asked."""
        return self._bus if self._ready else None

    def watch(self, descriptor: int) -> None:
        """Tell of READABLE when the descriptor has something to read."""
        GLib.io_add_watch(descriptor, GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN, self._readable)

    def wake(self, seconds: float | None) -> None:
        """Tell of MOMENT in so many seconds."""
        if self._timer:
            GLib.source_remove(self._timer)
            self._timer = 0
        if seconds is None:
            return
        if seconds > _COARSE:
            self._timer = GLib.timeout_add_seconds(min(int(seconds) + 1, 2**31), self._moment)
        else:
            self._timer = GLib.timeout_add(max(1, int(seconds * 1000)), self._moment)

    def run(self, notice: Notice) -> None:
        """Connect and tell of everything until `stop`. Raises HostUnsuitable or BusTimeout from the first."""
        self._notice = notice
        self._listen(self._connect())
        context, wait = GLib.MainContext.default(), bare(GLib.MainContext, "iteration")
        with _woken_by_signals():
            while not self._stopped:
                wait(context, True)

    def stop(self) -> None:
        """Let `run` return, at once if it has not begun."""
        self._stopped = True

    def _readable(self, *_: Any) -> bool:
        self._notice(Event(What.READABLE))
        return True

    def _moment(self) -> bool:
        self._timer = 0
        self._notice(Event(What.MOMENT))
        return False

    def _open(self) -> bool:
        try:
            self._listen(self._connect())
        except CgroupLayeringError:
            self._again()
        return False

    def _listen(self, bus: SystemdBus) -> None:
        self._bus = bus
        self._wait = self._retry
        connection = self._bus.connection
        connection.connect("closed", self._closed)
        for member in _MEMBERS:
            connection.signal_subscribe(
                _NAME, _MANAGER, member, _PATH, None, Gio.DBusSignalFlags.NONE, self._of_manager
            )
        connection.signal_subscribe(
            _NAME, "org.freedesktop.DBus.Properties", "PropertiesChanged", None, UNIT,
            Gio.DBusSignalFlags.NONE, self._of_unit,
        )  # fmt: skip
        # A re-executed systemd takes its name anew, and a restarted bus has to be told again who listens.
        self._watching = Gio.bus_watch_name_on_connection(
            connection, _NAME, Gio.BusNameWatcherFlags.NONE, self._appeared, self._vanished
        )

    def _again(self) -> None:
        GLib.timeout_add(int(self._wait * 1000), self._open)
        self._wait = min(2 * self._wait, RETRY_MOST)

    def _closed(self, connection: Any, _vanished: bool, _error: Any) -> None:
        if self._bus is None or connection is not self._bus.connection:
            return
        if self._watching:
            Gio.bus_unwatch_name(self._watching)
            self._watching = 0
        self._bus = None
        self._lost()
        self._again()

    def _appeared(self, connection: Any, _name: str, _owner: str) -> None:
        if self._bus is None or connection is not self._bus.connection:
            return
        try:
            self._bus.subscribe()
        except CgroupLayeringError:
            # Without its signals we would be deaf: begin anew with another connection.
            connection.close(None, None)
            return
        self._ready = True
        self._notice(Event(What.CONNECTED))

    def _vanished(self, _connection: Any, _name: str) -> None:
        self._lost()

    def _lost(self) -> None:
        if self._ready:
            self._ready = False
            self._notice(Event(What.LOST))

    def _of_manager(
        self, _c: Any, _sender: str, _path: str, _interface: str, member: str, arguments: Any
    ) -> None:  # fmt: skip
        values = arguments.unpack()
        if member == "UnitNew":
            self._notice(Event(What.UNIT_NEW, values[0]))
        elif member == "UnitRemoved":
            self._notice(Event(What.UNIT_REMOVED, values[0]))
        elif member == "JobRemoved":
            self._notice(Event(What.JOB_REMOVED, values[2], values[3]))
        elif member == "Reloading":
            self._notice(Event(What.RELOADING if values[0] else What.RELOADED))
        else:
            self._notice(Event(What.UNIT_FILES_CHANGED))

    def _of_unit(
        self, _c: Any, _sender: str, path: str, _interface: str, _member: str, arguments: Any
    ) -> None:  # fmt: skip
        # Only what is wanted is turned into Python: a reload sends one of these for each unit.
        state = arguments.get_child_value(1).lookup_value("ActiveState", None)
        if state is not None:
            self._notice(Event(What.UNIT_CHANGED, unit_of(path), state.get_string()))
