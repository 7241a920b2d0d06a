# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd's manager over D-Bus.

Calls go out with a timeout each, several at a time, without the introspection that pydbus would do for every object
(its proxies also wait for ever by default). When the bus is lost they go on over another connection.
"""

from __future__ import annotations

import ctypes
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from gi.repository import Gio, GLib

from cgroup_layering.errors import HostUnsuitable
from cgroup_layering.systemd.manager import (
    BusError,
    BusLost,
    BusTimeout,
    Reading,
    Transient,
    TransientTimer,
    UnitFileRow,
    UnitRow,
)
from cgroup_layering.systemd.sparing import bare

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_ONCE = frozenset({"RestartUnit", "TryRestartUnit", "StartTransientUnit"})
"""What must not be asked twice; whether it was done can't be known once the connection is lost on the way."""
_Call = tuple[str, str, str, str, Any]
"""A key, and path, interface, method and arguments."""
_WINDOW = 128
"""Calls under way at once: enough to keep the bus busy, far below its limits."""
_QUEUE = 16
"""A call behind so many others gets one more timeout: systemd answers one after the other."""
_NO_ANSWER = (Gio.IOErrorEnum.TIMED_OUT, Gio.IOErrorEnum.CANCELLED)
_GRACE = 5.0
"""Seconds beyond a timeout after which it is not left to GLib to notice it."""


def _keep(connection: Any) -> Any:
    """Keep a connection until the process ends, also while the interpreter is taken down.

    PyGObject lets go of the last reference with the interpreter's lock held. GLib then waits for a lock that its own
    thread holds while that one, handling a message, waits for the interpreter's: a deadlock, seen on Debian 12.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    return connection


def object_path(unit: str) -> str:
    """The D-Bus object path of a unit (src/libsystemd/sd-bus/bus-label.c: `bus_label_escape`)."""
    out = []
    for index, byte in enumerate(unit.encode()):
        char = chr(byte)
        plain = char.isascii() and (char.isalpha() or (index > 0 and char.isdigit()))
        out.append(char if plain else f"_{byte:02x}")
    return f"{_PATH}/unit/{''.join(out) or '_'}"


def unit_of(path: str) -> str:
    """The unit that an object path stands for: the inverse of `object_path`; empty for a path of anything else."""
    label = path.removeprefix(f"{_PATH}/unit/")
    if label == path:
        return ""
    try:
        parts = [bytes.fromhex(part[:2]) + part[2:].encode() for part in label.split("_")[1:]]
        return (label.partition("_")[0].encode() + b"".join(parts)).decode()
    except ValueError:
        return ""


class SystemdBus:
    """The Manager protocol over the system bus; `again` makes another connection when that is lost, or returns None."""

    def __init__(
        self, connection: Any, timeout: float, reload_timeout: float, again: Callable[[], Any] = lambda: None
    ) -> None:
        self._connection = _keep(connection)
        self._again = again
        self._timeout = timeout
        self._reload_timeout = reload_timeout
        self._version = 0

    @property
    def connection(self) -> Any:
        """GLib's connection, for those who listen to signals."""
        return self._connection

    def subscribe(self) -> None:
        """Ask systemd to send its signals at all; again is no error."""
        try:
            self._call("Subscribe", None, None)
        except BusError as error:
            if error.name != f"{_NAME}.AlreadySubscribed":
                raise

    def version(self) -> int:
        """The major version: `257.13-1~deb13u1` is 257, and so is `v257.13`."""
        if self._version:
            return self._version
        text = str(self._manager_property("Version"))
        digits = text.lstrip("v").split(".")[0].split("-")[0].split("~")[0].split(" ")[0]
        if not digits.isdigit():
            raise HostUnsuitable(f"systemd's version {text!r} is not understood.")
        self._version = int(digits)
        return self._version

    def unit_path(self) -> tuple[Path, ...]:
        """The folders of unit files, first wins."""
        return tuple(Path(path) for path in self._manager_property("UnitPath"))

    def default_memory_accounting(self) -> bool:
        """DefaultMemoryAccounting= of systemd-system.conf(5)."""
        return bool(self._manager_property("DefaultMemoryAccounting"))

    def reading(self) -> Reading:
        """When systemd last read all unit files (`UnitsLoadTimestamp`)."""
        # A scope of systemd's own: it has no file that could have changed, only what is outdated for all.
        outdated = self._get(object_path("init.scope"), f"{_NAME}.Unit", "NeedDaemonReload")
        return Reading(
            realtime=self._manager_property("UnitsLoadTimestamp") / 1e6,
            monotonic=self._manager_property("UnitsLoadTimestampMonotonic") / 1e6,
            outdated=bool(outdated),
            oom_policy=str(self._manager_property("DefaultOOMPolicy")),
        )

    def unit_files(self, pattern: str) -> list[UnitFileRow]:
        """All installed unit files whose name matches the glob."""
        (rows,) = self._call("ListUnitFilesByPatterns", GLib.Variant("(asas)", ([], [pattern])), "(a(ss))").unpack()
        return [UnitFileRow(Path(path), state) for path, state in rows]

    def units(self, pattern: str) -> list[UnitRow]:
        """All loaded units whose name matches the glob."""
        reply = self._call("ListUnitsByPatterns", GLib.Variant("(asas)", ([], [pattern])), "(a(ssssssouso))")
        return _rows(reply)

    def load(self, names: Iterable[str]) -> list[UnitRow]:
        """Load the named units, without starting them."""
        reply = self._call("ListUnitsByNames", GLib.Variant("(as)", (list(names),)), "(a(ssssssouso))")
        return _rows(reply)

    def properties(self, units: Iterable[str], interface: str, names: Iterable[str]) -> dict[str, dict[str, object]]:
        """The named properties of each unit, by one GetAll each, many under way at once."""
        wanted = tuple(names)
        found: dict[str, dict[str, object]] = {}
        arguments = GLib.Variant("(s)", (interface,))
        # Answers are told apart by unit, so each is asked once.
        calls = ((unit, object_path(unit), _PROPERTIES, "GetAll", arguments) for unit in dict.fromkeys(units))
        for unit, reply in self._pipeline(calls, "(a{sv})"):
            if isinstance(reply, BusError):
                raise reply
            # Only what is wanted is turned into Python: a service has some 300 properties. Without the dictionary each
            # look-up would go through all of them.
            table = GLib.VariantDict.new(reply.get_child_value(0))
            values = ((name, table.lookup_value(name, None)) for name in wanted)
            found[unit] = {name: value.unpack() for name, value in values if value is not None}
        return found

    def reload(self) -> None:
        """daemon-reload; returns when done."""
        self._call("Reload", None, None, self._reload_timeout)

    def enqueue(self, verb: str, units: Iterable[str], mode: str = "replace") -> dict[str, int | BusError]:
        """Queue a job for each unit; a job's id is the last part of its object path."""
        method = {
            "start": "StartUnit",
            "stop": "StopUnit",
            "restart": "RestartUnit",
            "try-restart": "TryRestartUnit",
        }[verb]
        calls = ((unit, _PATH, _MANAGER, method, GLib.Variant("(ss)", (unit, mode))) for unit in dict.fromkeys(units))
        return {
            unit: reply if isinstance(reply, BusError) else int(reply.unpack()[0].rpartition("/")[2])
            for unit, reply in self._pipeline(calls, "(o)")
        }

    def jobs(self) -> dict[int, str]:
        """The queued jobs: id to unit."""
        return {row[0]: row[1] for row in self._call("ListJobs", None, "(a(usssoo))").unpack()[0]}

    def reset_failed(self, unit: str) -> None:
        """Forget a failed state."""
        self._call("ResetFailedUnit", GLib.Variant("(s)", (unit,)), None)

    def start_transient(self, unit: Transient) -> None:
        """Make the unit and queue its start (StartTransientUnit)."""
        command = [(unit.argv[0], list(unit.argv), False)]
        properties = [
            ("Description", GLib.Variant("s", unit.description)),
            ("Slice", GLib.Variant("s", unit.slice)),
            ("Type", GLib.Variant("s", unit.type)),
            ("ExecStart", GLib.Variant("a(sasb)", command)),
            ("MemoryAccounting", GLib.Variant("b", False)),
            ("CollectMode", GLib.Variant("s", "inactive-or-failed")),
            ("TimeoutStartUSec", GLib.Variant("t", int(unit.timeout_seconds * 1e6))),
            ("Before", GLib.Variant("as", list(unit.before))),
        ]
        arguments = GLib.Variant("(ssa(sv)a(sa(sv)))", (unit.name, "fail", properties, []))
        self._call("StartTransientUnit", arguments, "(o)")

    def start_timer(self, timer: TransientTimer) -> None:
        """Make a timer and its service, and queue the timer's start."""
        command = [(timer.argv[0], list(timer.argv), False)]
        service = [
            ("Description", GLib.Variant("s", timer.description)),
            ("Type", GLib.Variant("s", "oneshot")),
            ("ExecStart", GLib.Variant("a(sasb)", command)),
            ("SyslogIdentifier", GLib.Variant("s", "cgroup-layering")),
        ]
        properties = [
            ("Description", GLib.Variant("s", timer.description)),
            ("TimersMonotonic", GLib.Variant("a(st)", [("OnActiveSec", int(timer.seconds * 1e6))])),
            ("AccuracyUSec", GLib.Variant("t", 1_000_000)),
            ("RemainAfterElapse", GLib.Variant("b", False)),
        ]
        arguments = GLib.Variant("(ssa(sv)a(sa(sv)))", (timer.timer, "fail", properties, [(timer.service, service)]))
        self._call("StartTransientUnit", arguments, "(o)")

    def _manager_property(self, name: str) -> Any:
        return self._get(_PATH, _MANAGER, name)

    def _get(self, path: str, interface: str, name: str) -> Any:
        arguments = GLib.Variant("(ss)", (interface, name))
        return self._call("Get", arguments, "(v)", interface=_PROPERTIES, path=path).unpack()[0]

    def _call(
        self,
        method: str,
        arguments: Any,
        reply: str | None,
        timeout: float | None = None,
        interface: str = _MANAGER,
        path: str = _PATH,
    ) -> Any:
        seconds = self._timeout if timeout is None else timeout
        kind = GLib.VariantType(reply) if reply else None
        self._renew(method)
        for last in (False, True):
            try:
                return self._connection.call_sync(
                    _NAME, path, interface, method, arguments, kind, 0, int(seconds * 1000), None
                )
            except GLib.Error as error:
                why = self._translate(error, method, seconds)
                if last or not isinstance(why, BusLost) or method in _ONCE:
                    raise why from error
                self._renew(method)
        raise AssertionError

    def _renew(self, call: str) -> None:
        """Make another connection if this one is lost. Raises BusLost where that fails."""
        if self._connection.is_closed():
            connection = self._again()
            if connection is None:
                raise BusLost(call)
            self._connection = _keep(connection)

    def _translate(self, error: Any, call: str, timeout: float) -> BusError:
        """Turn GLib's error into ours, by the D-Bus error's name where it came over the bus."""
        if any(error.matches(Gio.io_error_quark(), code) for code in _NO_ANSWER):
            return BusTimeout(call, timeout)
        name = Gio.DBusError.get_remote_error(error) or ""
        if name == "org.freedesktop.DBus.Error.NoReply":
            return BusTimeout(call, timeout)
        if error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.CLOSED) or (not name and self._connection.is_closed()):
            return BusLost(call)
        # strip_remote_error() would strip a copy: Python's bindings pass errors by value.
        return BusError(call, name, error.message.removeprefix(f"GDBus.Error:{name}: "))

    def _pipeline(self, calls: Iterable[_Call], reply: str) -> Iterator[tuple[str, Any]]:
        """Send many calls; yield `(key, reply or BusError)` as they are answered; again what a lost bus did not."""
        lost: list[_Call] = []
        self._renew("a call")
        for call, answer in self._send(calls, reply):
            if isinstance(answer, BusLost) and call[3] not in _ONCE:
                lost.append(call)
            else:
                yield call[0], answer
        if lost:
            self._renew(f"{lost[0][3]} of {lost[0][0]}")
            yield from ((call[0], answer) for call, answer in self._send(lost, reply))

    def _send(self, calls: Iterable[_Call], reply: str) -> Iterator[tuple[_Call, Any]]:
        """Send many calls; yield `(call, reply or BusError)` as they are answered.

        So many are always under way that systemd and the bus work on while the caller looks at an answer. Raises
        BusTimeout where nothing at all is answered for a timeout.
        """
        kind = GLib.VariantType(reply)
        context, wait = GLib.MainContext.default(), bare(GLib.MainContext, "iteration")
        milliseconds = int(self._timeout * 1000)
        done: deque[tuple[_Call, Any]] = deque()

        def finish(connection: Any, result: Any, call: _Call) -> None:
            try:
                done.append((call, connection.call_finish(result)))
            except GLib.Error as error:
                done.append((call, self._translate(error, f"{call[3]} of {call[0]}", self._timeout)))

        given_up = Gio.Cancellable()
        waiting = 0
        last = ""
        source = iter(calls)
        while True:
            for call in islice(source, _WINDOW - waiting):
                _, path, interface, method, arguments = call
                patience = milliseconds * (1 + waiting // _QUEUE)
                self._connection.call(
                    _NAME, path, interface, method, arguments, kind, 0, patience, given_up, finish, call
                )
                waiting += 1
                last = method
            if not waiting:
                return
            self._await(done, context, wait, last)
            waiting -= 1
            call, answer = done.popleft()
            if isinstance(answer, BusTimeout):
                # Those behind it will not be answered either.
                given_up.cancel()
                given_up = Gio.Cancellable()
            yield call, answer

    def _await(self, done: deque[Any], context: Any, wait: Callable[[Any, bool], object], method: str) -> None:
        """Until there is an answer. Raises BusTimeout where there is none for a timeout and a bit."""
        if done:
            return
        deadline = time.monotonic() + self._timeout + _GRACE
        # Without it nothing would end the waiting before the first call does.
        alarm = GLib.timeout_add(int((self._timeout + _GRACE) * 1000) + 1, lambda: True)
        try:
            while not done:
                wait(context, True)
                if not done and time.monotonic() > deadline:
                    raise BusTimeout(method, self._timeout)
        finally:
            GLib.source_remove(alarm)


def _rows(reply: Any) -> list[UnitRow]:
    """The rows of ListUnits, of which half is wanted: only that is turned into Python."""
    table = reply.get_child_value(0)
    rows = (table.get_child_value(number) for number in range(table.n_children()))
    return [UnitRow(*(row.get_child_value(place).get_string() for place in (0, 2, 3, 4, 8))) for row in rows]
