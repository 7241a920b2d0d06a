# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd's manager over D-Bus: the only module that imports pydbus.

pydbus gives the connection; calls go out through it with a timeout each, several at a time, without the
introspection that pydbus would do for every object (its proxies also wait for ever by default).
"""

from __future__ import annotations

import ctypes
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from gi.repository import Gio, GLib

from cgroup_layering.errors import HostUnsuitable
from cgroup_layering.systemd.manager import BusError, BusTimeout, Transient, TransientTimer, UnitFileRow, UnitRow

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_SOCKET = Path("/run/dbus/system_bus_socket")
_BOOTED = Path("/run/systemd/system")
_WINDOW = 128
"""Calls under way at once: enough to keep the bus busy, far below its limits."""


def connect(
    timeout: float = 30.0, reload_timeout: float = 180.0, bus_socket: Path = _SOCKET, booted: Path = _BOOTED
) -> SystemdBus:
    """Connect to the system manager; timeouts in seconds for each call and for a daemon-reload.

    Raises HostUnsuitable where there is no systemd or no bus, BusTimeout where the bus does not answer.
    """
    _check_booted(booted)
    _greet(timeout, bus_socket)
    import pydbus

    try:
        bus = pydbus.SystemBus()
    except GLib.Error as error:
        raise HostUnsuitable(f"Cannot connect to the system bus: {error.message.rstrip('.')}.") from error
    return SystemdBus(bus, timeout, reload_timeout)


def _check_booted(booted: Path) -> None:
    if not booted.is_dir():
        raise HostUnsuitable(
            "This host was not booted with systemd, so there are no services to layer.",
            "Use --root=DIR to work on the files of an image.",
        )


def connect_apart(
    timeout: float = 30.0, reload_timeout: float = 180.0, bus_socket: Path = _SOCKET, booted: Path = _BOOTED
) -> SystemdBus:
    """Connect as `connect` does, by a connection of our own: GLib ends the process when the one it shares is lost."""
    _check_booted(booted)
    _greet(timeout, bus_socket)
    flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
    try:
        # Without pydbus, which is half a megabyte in a process that stays.
        connection = Gio.DBusConnection.new_for_address_sync(f"unix:path={bus_socket}", flags, None, None)
        return SystemdBus(_Bus(connection), timeout, reload_timeout)
    except GLib.Error as error:
        raise HostUnsuitable(f"Cannot connect to the system bus: {error.message.rstrip('.')}.") from error


def _greet(timeout: float, bus_socket: Path) -> None:
    """See that the bus answers at all: connecting through GLib would wait for ever for one that hangs."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
            probe.settimeout(timeout)
            probe.connect(str(bus_socket))
            probe.sendall(b"\0AUTH\r\n")
            if not probe.recv(64):
                raise HostUnsuitable("The system bus closed the connection at once.")
    except TimeoutError as error:
        raise BusTimeout("the greeting on the system bus", timeout) from error
    except OSError as error:
        raise HostUnsuitable(
            f"Cannot connect to the system bus at {bus_socket}: {error.strerror}.",
            "Is the package dbus installed and dbus.socket active?",
        ) from error


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


class _Bus(NamedTuple):
    """What SystemdBus needs of a bus: GLib's connection, under the name that pydbus has for it."""

    con: Any


class SystemdBus:
    """The Manager protocol over the system bus."""

    def __init__(self, bus: Any, timeout: float, reload_timeout: float) -> None:
        self._connection = _keep(bus.con)
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

    def unit_files(self, pattern: str) -> list[UnitFileRow]:
        """All installed unit files whose name matches the glob."""
        (rows,) = self._call("ListUnitFilesByPatterns", GLib.Variant("(asas)", ([], [pattern])), "(a(ss))").unpack()
        return [UnitFileRow(Path(path), state) for path, state in rows]

    def units(self, pattern: str) -> list[UnitRow]:
        """All loaded units whose name matches the glob."""
        reply = self._call("ListUnitsByPatterns", GLib.Variant("(asas)", ([], [pattern])), "(a(ssssssouso))")
        return [_row(row) for row in reply.unpack()[0]]

    def load(self, names: Iterable[str]) -> list[UnitRow]:
        """Load the named units, without starting them."""
        reply = self._call("ListUnitsByNames", GLib.Variant("(as)", (list(names),)), "(a(ssssssouso))")
        return [_row(row) for row in reply.unpack()[0]]

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
            # Only what is wanted is turned into Python: a service has some 300 properties.
            table = reply.get_child_value(0)
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
        arguments = GLib.Variant("(ss)", (_MANAGER, name))
        return self._call("Get", arguments, "(v)", interface=_PROPERTIES).unpack()[0]

    def _call(
        self,
        method: str,
        arguments: Any,
        reply: str | None,
        timeout: float | None = None,
        interface: str = _MANAGER,
    ) -> Any:
        seconds = self._timeout if timeout is None else timeout
        kind = GLib.VariantType(reply) if reply else None
        try:
            return self._connection.call_sync(
                _NAME, _PATH, interface, method, arguments, kind, 0, int(seconds * 1000), None
            )
        except GLib.Error as error:
            raise _translate(error, method, seconds) from error

    def _pipeline(self, calls: Iterable[tuple[str, str, str, str, Any]], reply: str) -> Iterator[tuple[str, Any]]:
        """Send many calls; yield `(key, reply or BusError)` as they are answered.

        So many are always under way that systemd and the bus work on while the caller looks at an answer.
        """
        kind = GLib.VariantType(reply)
        context = GLib.MainContext.default()
        milliseconds = int(self._timeout * 1000)
        done: deque[tuple[str, Any]] = deque()

        def finish(connection: Any, result: Any, key: tuple[str, str]) -> None:
            try:
                done.append((key[0], connection.call_finish(result)))
            except GLib.Error as error:
                done.append((key[0], _translate(error, f"{key[1]} of {key[0]}", self._timeout)))

        waiting = 0
        last = ""
        source = iter(calls)
        while True:
            for key, path, interface, method, arguments in islice(source, _WINDOW - waiting):
                self._connection.call(
                    _NAME, path, interface, method, arguments, kind, 0, milliseconds, None, finish, (key, method)
                )
                waiting += 1
                last = method
            if not waiting:
                return
            deadline = time.monotonic() + self._timeout + 5
            while not done:
                context.iteration(True)
                if time.monotonic() > deadline:
                    raise BusTimeout(last, self._timeout)
            waiting -= 1
            yield done.popleft()


def _row(row: tuple[Any, ...]) -> UnitRow:
    return UnitRow(row[0], row[2], row[3], row[4], row[8])


def _translate(error: Any, call: str, timeout: float) -> BusError:
    """Turn GLib's error into ours, by the D-Bus error's name where it came over the bus."""
    if error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.TIMED_OUT):
        return BusTimeout(call, timeout)
    name = Gio.DBusError.get_remote_error(error) or ""
    if name == "org.freedesktop.DBus.Error.NoReply":
        return BusTimeout(call, timeout)
    # strip_remote_error() would strip a copy: Python's bindings pass errors by value.
    return BusError(call, name, error.message.removeprefix(f"GDBus.Error:{name}: "))
