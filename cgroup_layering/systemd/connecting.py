# SPDX-License-Identifier: LGPL-2.1-or-later
"""Connections to systemd: pydbus gives the first one, and is imported nowhere else."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from gi.repository import Gio, GLib

from cgroup_layering.errors import CgroupLayeringError, HostUnsuitable
from cgroup_layering.spans import parse_span
from cgroup_layering.systemd.bus import SystemdBus
from cgroup_layering.systemd.manager import BusTimeout

_SOCKET = Path("/run/dbus/system_bus_socket")
_PRIVATE = Path("/run/systemd/private")
_BOOTED = Path("/run/systemd/system")
_PATIENCE = 30.0
_LONGEST = 3600.0


def connect(
    timeout: float | None = None, reload_timeout: float = 180.0, bus_socket: Path = _SOCKET, booted: Path = _BOOTED
) -> SystemdBus:
    """Connect to the system manager; timeouts in seconds for each call and for a daemon-reload.

    Without one for each call it is that of $SYSTEMD_BUS_TIMEOUT, as systemctl's is (docs/ENVIRONMENT.md in systemd's
    tree), or 30 s. Raises HostUnsuitable where there is no systemd or no bus, BusTimeout where the bus does not answer.
    """
    timeout = patience() if timeout is None else timeout
    _check_booted(booted)
    _greet(timeout, bus_socket)
    import pydbus

    try:
        connection = pydbus.SystemBus().con
    except GLib.Error as error:
        raise HostUnsuitable(f"Cannot connect to the system bus: {error.message.rstrip('.')}.") from error
    # GLib would end the process without a word, between any two steps, when the bus goes.
    connection.set_exit_on_close(False)
    return SystemdBus(connection, timeout, max(timeout, reload_timeout), lambda: _again(timeout, bus_socket))


def _again(timeout: float, bus_socket: Path, private: Path = _PRIVATE) -> Any:
    """Another connection after the bus was lost, or None: root has one to systemd itself, which systemctl(1) uses."""
    try:
        if os.geteuid() == 0 and private.is_socket():
            flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
            return Gio.DBusConnection.new_for_address_sync(f"unix:path={private}", flags, None, None)
        _greet(timeout, bus_socket)
        return _open(bus_socket)
    except (GLib.Error, CgroupLayeringError):
        return None


def patience() -> float:
    """Seconds to wait for an answer; what is no time span, or none, counts as unset (sd-bus.c in systemd's tree)."""
    try:
        seconds = parse_span(os.environ.get("SYSTEMD_BUS_TIMEOUT", ""))
    except ValueError:
        return _PATIENCE
    return min(seconds, _LONGEST) or _PATIENCE


def _check_booted(booted: Path) -> None:
    if not booted.is_dir():
        raise HostUnsuitable(
            "This host was not booted with systemd, so there are no services to layer.",
            "Use --root=DIR to work on the files of an image.",
        )


def connect_apart(
    timeout: float | None = None, reload_timeout: float = 180.0, bus_socket: Path = _SOCKET, booted: Path = _BOOTED
) -> SystemdBus:
    """Connect as `connect` does, by a connection of our own: GLib ends the process when the one it shares is lost."""
    timeout = patience() if timeout is None else timeout
    _check_booted(booted)
    _greet(timeout, bus_socket)
    try:
        # Without pydbus, which is half a megabyte in a process that stays.
        return SystemdBus(_open(bus_socket), timeout, max(timeout, reload_timeout))
    except GLib.Error as error:
        raise HostUnsuitable(f"Cannot connect to the system bus: {error.message.rstrip('.')}.") from error


def _open(bus_socket: Path) -> Any:
    flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
    return Gio.DBusConnection.new_for_address_sync(f"unix:path={bus_socket}", flags, None, None)


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
