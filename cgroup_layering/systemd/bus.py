# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd's manager over D-Bus: what is asked of it, and how it says it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gi.repository import GLib

from cgroup_layering.errors import HostUnsuitable
from cgroup_layering.systemd import objectpath
from cgroup_layering.systemd.calls import MANAGER, NAME, Calls
from cgroup_layering.systemd.manager import BusError, Reading, Transient, TransientTimer, UnitFileRow, UnitRow
from cgroup_layering.systemd.objectpath import object_path

_PROPERTIES = "org.freedesktop.DBus.Properties"


class SystemdBus:
    """The Manager protocol over the system bus; `again` makes another connection when that is lost, or returns None."""

    def __init__(
        self, connection: Any, timeout: float, reload_timeout: float, again: Callable[[], Any] = lambda: None
    ) -> None:
        self._calls = Calls(connection, timeout, again)
        self._reload_timeout = reload_timeout
        self._version = 0

    @property
    def connection(self) -> Any:
        """GLib's connection, for those who listen to signals."""
        return self._calls.connection

    def subscribe(self) -> None:
        """Ask systemd to send its signals at all; again is no error."""
        try:
            self._calls.call("Subscribe", None, None)
        except BusError as error:
            if error.name != f"{NAME}.AlreadySubscribed":
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
        outdated = self._get(object_path("init.scope"), f"{NAME}.Unit", "NeedDaemonReload")
        return Reading(
            realtime=self._manager_property("UnitsLoadTimestamp") / 1e6,
            monotonic=self._manager_property("UnitsLoadTimestampMonotonic") / 1e6,
            outdated=bool(outdated),
            oom_policy=str(self._manager_property("DefaultOOMPolicy")),
        )

    def unit_files(self, pattern: str) -> list[UnitFileRow]:
        """All installed unit files whose name matches the glob."""
        (rows,) = self._calls.call(
            "ListUnitFilesByPatterns", GLib.Variant("(asas)", ([], [pattern])), "(a(ss))"
        ).unpack()
        return [UnitFileRow(Path(path), state) for path, state in rows]

    def units(self, pattern: str) -> list[UnitRow]:
        """All loaded units whose name matches the glob."""
        reply = self._calls.call("ListUnitsByPatterns", GLib.Variant("(asas)", ([], [pattern])), "(a(ssssssouso))")
        return _rows(reply)

    def load(self, names: Iterable[str]) -> list[UnitRow]:
        """Load the named units, without starting them."""
        reply = self._calls.call("ListUnitsByNames", GLib.Variant("(as)", (list(names),)), "(a(ssssssouso))")
        return _rows(reply)

    def properties(self, units: Iterable[str], interface: str, names: Iterable[str]) -> dict[str, dict[str, object]]:
        """The named properties of each unit, by one GetAll each, many under way at once."""
        wanted = tuple(names)
        found: dict[str, dict[str, object]] = {}
        arguments = GLib.Variant("(s)", (interface,))
        # Answers are told apart by unit, so each is asked once.
        calls = ((unit, object_path(unit), _PROPERTIES, "GetAll", arguments) for unit in dict.fromkeys(units))
        for unit, reply in self._calls.pipeline(calls, "(a{sv})"):
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
        self._calls.call("Reload", None, None, self._reload_timeout)

    def enqueue(self, verb: str, units: Iterable[str], mode: str = "replace") -> dict[str, int | BusError]:
        """Queue a job for each unit; a job's id is the last part of its object path."""
        method = {
            "start": "StartUnit",
            "stop": "StopUnit",
            "restart": "RestartUnit",
            "try-restart": "TryRestartUnit",
        }[verb]
        calls = (
            (unit, objectpath.MANAGER, MANAGER, method, GLib.Variant("(ss)", (unit, mode)))
            for unit in dict.fromkeys(units)
        )
        return {
            unit: reply if isinstance(reply, BusError) else int(reply.unpack()[0].rpartition("/")[2])
            for unit, reply in self._calls.pipeline(calls, "(o)")
        }

    def jobs(self) -> dict[int, str]:
        """The queued jobs: id to unit."""
        return {row[0]: row[1] for row in self._calls.call("ListJobs", None, "(a(usssoo))").unpack()[0]}

    def reset_failed(self, unit: str) -> None:
        """Forget a failed state."""
        self._calls.call("ResetFailedUnit", GLib.Variant("(s)", (unit,)), None)

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
        self._calls.call("StartTransientUnit", arguments, "(o)")

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
        self._calls.call("StartTransientUnit", arguments, "(o)")

    def _manager_property(self, name: str) -> Any:
        return self._get(objectpath.MANAGER, MANAGER, name)

    def _get(self, path: str, interface: str, name: str) -> Any:
        arguments = GLib.Variant("(ss)", (interface, name))
        return self._calls.call("Get", arguments, "(v)", interface=_PROPERTIES, path=path).unpack()[0]


def _rows(reply: Any) -> list[UnitRow]:
    """The rows of ListUnits, of which half is wanted: only that is turned into Python."""
    table = reply.get_child_value(0)
    rows = (table.get_child_value(number) for number in range(table.n_children()))
    return [UnitRow(*(row.get_child_value(place).get_string() for place in (0, 2, 3, 4, 8))) for row in rows]
