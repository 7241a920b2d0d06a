# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process that owns org.freedesktop.systemd1 on a private bus and answers as a JSON object in its arguments says."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from gi.repository import Gio, GLib

NAME = "org.freedesktop.systemd1"
ROOT = "/org/freedesktop/systemd1"
MANAGER = f"""
<node><interface name="{NAME}.Manager">
  <method name="ListUnitFilesByPatterns"><arg type="as" direction="in"/><arg type="as" direction="in"/>
    <arg type="a(ss)" direction="out"/></method>
  <method name="ListUnitsByPatterns"><arg type="as" direction="in"/><arg type="as" direction="in"/>
    <arg type="a(ssssssouso)" direction="out"/></method>
  <method name="ListUnitsByNames"><arg type="as" direction="in"/><arg type="a(ssssssouso)" direction="out"/></method>
  <method name="ListJobs"><arg type="a(usssoo)" direction="out"/></method>
  <method name="Reload"/>
  <method name="Subscribe"/>
  <signal name="UnitNew"><arg type="s"/><arg type="o"/></signal>
  <signal name="UnitRemoved"><arg type="s"/><arg type="o"/></signal>
  <signal name="JobRemoved"><arg type="u"/><arg type="o"/><arg type="s"/><arg type="s"/></signal>
  <signal name="UnitFilesChanged"/>
  <signal name="Reloading"><arg type="b"/></signal>
  <method name="StartUnit"><arg type="s" direction="in"/><arg type="s" direction="in"/>
    <arg type="o" direction="out"/></method>
  <method name="StopUnit"><arg type="s" direction="in"/><arg type="s" direction="in"/>
    <arg type="o" direction="out"/></method>
  <method name="RestartUnit"><arg type="s" direction="in"/><arg type="s" direction="in"/>
    <arg type="o" direction="out"/></method>
  <method name="TryRestartUnit"><arg type="s" direction="in"/><arg type="s" direction="in"/>
    <arg type="o" direction="out"/></method>
  <method name="ResetFailedUnit"><arg type="s" direction="in"/></method>
  <property name="Version" type="s" access="read"/>
  <property name="UnitPath" type="as" access="read"/>
  <property name="DefaultMemoryAccounting" type="b" access="read"/>
  <property name="DefaultOOMPolicy" type="s" access="read"/>
  <property name="UnitsLoadTimestamp" type="t" access="read"/>
  <property name="UnitsLoadTimestampMonotonic" type="t" access="read"/>
</interface></node>"""
UNIT = f"""
<node>
  <interface name="{NAME}.Unit">
    <property name="Names" type="as" access="read"/><property name="ActiveState" type="s" access="read"/>
    <property name="Transient" type="b" access="read"/><property name="NeedDaemonReload" type="b" access="read"/>
  </interface>
  <interface name="{NAME}.Service">
    <property name="Slice" type="s" access="read"/><property name="ControlGroup" type="s" access="read"/>
    <property name="MemoryMax" type="t" access="read"/>
  </interface>
</node>"""


def label(unit: str) -> str:
    """The object path of a unit, written down a second time on purpose."""
    plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    out = ""
    for index, byte in enumerate(unit.encode()):
        keep = chr(byte) in plain or (index and chr(byte) in "0123456789")
        out += chr(byte) if keep else f"_{byte:02x}"
    return f"{ROOT}/unit/{out}"


def row(name: str, job: str = "") -> tuple[Any, ...]:
    """One row of ListUnits."""
    return (name, "A unit", "loaded", "active", "running", "", label(name), 7 if job else 0, job, ROOT + "/job/7")


class StandIn:
    """The manager's and the units' objects."""

    def __init__(self, told: dict[str, Any], connection: Any) -> None:
        self.told = told
        self.connection = connection
        self.jobs = 100

    def publish(self) -> None:
        """Register the objects and take the name."""
        self._register(ROOT, MANAGER, self.call, self.manager_property)
        for unit in (*self.told.get("units", ()), "init.scope"):
            self._register(label(unit), UNIT, None, lambda *words, unit=unit: self.unit_property(unit, words[4]))
        # 4 is not to be queued (D-Bus specification, RequestName).
        arguments = GLib.Variant("(su)", (NAME, 0 if self.told.get("waits") else 4))
        self.connection.call_sync(
            "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "RequestName", arguments, None, 0, -1, None
        )

    def _register(self, path: str, xml: str, call: Any, get: Any) -> None:
        for interface in Gio.DBusNodeInfo.new_for_xml(xml).interfaces:
            self.connection.register_object(path, interface, call, get, None)

    def manager_property(self, _c: Any, _s: str, _p: str, _i: str, name: str) -> Any:
        """Properties of the manager."""
        if name == "Version":
            return GLib.Variant("s", self.told.get("version", "252.39-1~deb12u2"))
        if name == "UnitPath":
            return GLib.Variant("as", ["/etc/systemd/system", "/usr/lib/systemd/system"])
        if name == "DefaultOOMPolicy":
            return GLib.Variant("s", "kill")
        if name.startswith("UnitsLoad"):
            return GLib.Variant("t", 12_500_000 if name.endswith("Monotonic") else 1_700_000_000_250_000)
        return GLib.Variant("b", self.told.get("accounting", True))

    def unit_property(self, unit: str, name: str) -> Any:
        """Properties of a unit; MemoryMax is one that nobody asks for."""
        if name == "Names":
            time.sleep(self.told.get("slow", 0))
        values = {
            "Names": GLib.Variant("as", [unit]),
            "ActiveState": GLib.Variant("s", "active"),
            "Transient": GLib.Variant("b", False),
            "NeedDaemonReload": GLib.Variant("b", self.told.get("outdated", False)),
            "Slice": GLib.Variant("s", "system.slice" + "x" * self.told.get("more", 0)),
            "ControlGroup": GLib.Variant("s", f"/system.slice/{unit}"),
            "MemoryMax": GLib.Variant("t", 2**64 - 1),
        }
        return values[name]

    def call(self, _c: Any, _s: str, _p: str, _i: str, method: str, arguments: Any, invocation: Any) -> None:
        """Methods of the manager."""
        unit = arguments.unpack()[0] if arguments.n_children() else ""
        if method in self.told.get("silent", ()) or unit in self.told.get("silent", ()):
            return
        if method in self.told.get("dies", ()):
            os._exit(1)
        errors = self.told.get("errors", {})
        error = errors.get(method) or (errors.get(unit) if isinstance(unit, str) else None)
        if error:
            invocation.return_dbus_error(*error)
            return
        if method == "Subscribe":
            invocation.return_value(None)
            GLib.idle_add(self.emit)
            return
        invocation.return_value(self.answer(method, arguments.unpack()))

    def emit(self) -> bool:
        """Send the signals that are told, to whoever listens."""
        for member, kind, values in self.told.get("signals", ()):
            arguments = GLib.Variant(kind, tuple(values)) if kind else None
            self.connection.emit_signal(None, ROOT, f"{NAME}.Manager", member, arguments)
        for unit, interface, changed in self.told.get("changes", ()):
            values = {key: GLib.Variant("s", value) for key, value in changed.items()}
            arguments = GLib.Variant("(sa{sv}as)", (interface, values, []))
            self.connection.emit_signal(
                None, label(unit), "org.freedesktop.DBus.Properties", "PropertiesChanged", arguments
            )
        return False

    def answer(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """The reply to a call that is neither refused nor left alone."""
        rows = "(a(ssssssouso))"
        if method == "ListUnitFilesByPatterns":
            return GLib.Variant("(a(ss))", ([("/usr/lib/systemd/system/a.service", "enabled")],))
        if method == "ListUnitsByPatterns":
            names = self.told.get("units", ()) or [f"u{n}.service" for n in range(self.told.get("count", 0))]
            return GLib.Variant(rows, ([row(name, "restart" if name == "busy.service" else "") for name in names],))
        if method == "ListUnitsByNames":
            return GLib.Variant(rows, ([row(name) for name in arguments[0]],))
        if method == "ListJobs":
            return GLib.Variant("(a(usssoo))", ([(7, "busy.service", "restart", "waiting", ROOT, ROOT)],))
        if method in ("Reload", "ResetFailedUnit"):
            return None
        self.jobs += 1
        if arguments[1] != "replace":
            return GLib.Variant("(o)", (f"{ROOT}/job/{9000 + self.jobs}",))
        return GLib.Variant("(o)", (f"{ROOT}/job/{self.jobs}",))


def main() -> None:
    """Serve until the end of standard input or a signal."""
    told = json.loads(sys.argv[2])
    flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
    connection = Gio.DBusConnection.new_for_address_sync(sys.argv[1], flags, None, None)
    StandIn(told, connection).publish()
    print("ready", flush=True)
    if told.get("hangs"):
        signal.pause()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
