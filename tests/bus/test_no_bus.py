# SPDX-License-Identifier: LGPL-2.1-or-later
"""A bus that is not there, hangs, hangs up, or is lost in mid-call."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydbus
import pytest
from gi.repository import Gio

from cgroup_layering.errors import HostUnsuitable
from cgroup_layering.systemd.bus import SystemdBus
from cgroup_layering.systemd.connecting import connect
from cgroup_layering.systemd.manager import SERVICE, BusError, BusLost, BusTimeout
from tests.bus.calls import CALLS, UNITS, at_most
from tests.bus.conftest import STAND_IN, TIMEOUT, Connect

pytestmark = pytest.mark.timeout(60)


def test_nobody_is_there(address: str) -> None:
    bus = SystemdBus(pydbus.connect(address).con, TIMEOUT, TIMEOUT)
    for call in CALLS.values():
        with pytest.raises(BusError):
            call(bus)


@pytest.fixture
def broken(systemd: Connect, address: str) -> Iterator[Callable[..., tuple[SystemdBus, Callable[[], None]]]]:
    """A connection over a bus that can be ended, and how to end it; the next one is over the bus of all tests."""
    command = ["dbus-daemon", "--session", "--nofork", "--print-address=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        first = daemon.stdout.readline().strip()

        def start(again: bool) -> tuple[SystemdBus, Callable[[], None]]:
            systemd(units=list(UNITS), timeout=10)
            standin = [sys.executable, str(STAND_IN), first, json.dumps({"units": list(UNITS), "dies": ["Reload"]})]
            process = subprocess.Popen(standin, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION

            def end() -> None:
                daemon.kill()
                process.kill()
                process.communicate(timeout=10)

            def other() -> Any:
                return Gio.DBusConnection.new_for_address_sync(address, flags, None, None) if again else None

            connection = Gio.DBusConnection.new_for_address_sync(first, flags, None, None)
            return SystemdBus(connection, 10, 10, other), end

        yield start
        daemon.kill()


def test_a_lost_bus_is_replaced(broken: Any) -> None:
    bus, end = broken(again=True)
    before = bus.properties(UNITS, SERVICE, ("Slice",))
    end()
    with at_most(8):
        assert bus.properties(UNITS, SERVICE, ("Slice",)) == before
        bus.reload()
        assert list(bus.enqueue("try-restart", UNITS)) == list(UNITS)


def test_a_lost_bus_that_nothing_replaces_is_an_error_with_a_sentence(broken: Any) -> None:
    bus, end = broken(again=False)
    end()
    for call in CALLS.values():
        with at_most(8), pytest.raises(BusLost, match="connection to systemd was lost"):
            call(bus)


@pytest.fixture
def booted(tmp_path: Path) -> Path:
    folder = tmp_path / "booted"
    folder.mkdir()
    return folder


def test_no_systemd(tmp_path: Path) -> None:
    with pytest.raises(HostUnsuitable, match="was not booted with systemd") as caught:
        connect(booted=tmp_path / "absent")
    assert "--root" in caught.value.hint


def test_no_bus(tmp_path: Path, booted: Path) -> None:
    with pytest.raises(HostUnsuitable, match=f"{tmp_path}/socket: No such file") as caught:
        connect(bus_socket=tmp_path / "socket", booted=booted)
    assert "dbus" in caught.value.hint


@contextmanager
def listening(path: Path, answer: bytes | None) -> Iterator[None]:
    """A socket whose owner never accepts, or one that answers with `answer` and closes."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)
        if answer is None:
            yield
            return

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(10)


def test_a_bus_that_hangs(tmp_path: Path, booted: Path) -> None:
    path = tmp_path / "socket"
    with (
        listening(path, None),
        at_most(5),
        pytest.raises(BusTimeout, match=r"the greeting on the system bus within 0\.3"),
    ):
        connect(timeout=0.3, bus_socket=path, booted=booted)


def test_a_bus_that_hangs_up(tmp_path: Path, booted: Path) -> None:
    path = tmp_path / "socket"
    with listening(path, b""), pytest.raises(HostUnsuitable, match="closed the connection"):
        connect(timeout=5, bus_socket=path, booted=booted)


def test_a_stale_socket(tmp_path: Path, booted: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    with pytest.raises(HostUnsuitable, match="Connection refused"):
        connect(timeout=5, bus_socket=tmp_path / "socket", booted=booted)


def test_the_whole_way(systemd: Connect, address: str, booted: Path) -> None:
    systemd(version="257.13-1", timeout=10)
    path = dict(part.split("=", 1) for part in address.removeprefix("unix:").split(","))["path"]
    program = (
        "import sys; from pathlib import Path; from cgroup_layering.systemd.connecting import connect\n"
        "print(connect(bus_socket=Path(sys.argv[1]), booted=Path(sys.argv[2])).version())"
    )
    # In a process of its own: GLib keeps the connection to the system bus for the life of a process.
    done = subprocess.run(
        [sys.executable, "-c", program, path, str(booted)],
        env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("257\n", 0), done.stderr


DROPPED = """
import sys
import pydbus
import pytest
from gi.repository import Gio
from cgroup_layering.systemd.bus import SystemdBus
NAME = "org.freedesktop.DBus"
for _ in range(1000):
    bus = pydbus.connect(sys.argv[1])
    product = SystemdBus(bus.con, 0.5, 0.5)
    for _ in range(5):
        bus.con.call(NAME, "/", NAME, "ListNames", None, None, 0, 500, None, None, None)
    del bus, product
"""


def test_a_connection_can_be_dropped_while_answers_come(address: str) -> None:
    """GLib's thread and the one that lets go of the connection must not wait for each other."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", DROPPED, address], check=True, timeout=50)
