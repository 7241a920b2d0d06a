# SPDX-License-Identifier: LGPL-2.1-or-later
"""The calls to systemd over a real bus: good answers, refusals, silence."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
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
from cgroup_layering.systemd.manager import SERVICE, UNIT, BusError, BusLost, BusTimeout, Reading
from cgroup_layering.systemd.objectpath import object_path
from tests.bus.conftest import STAND_IN, TIMEOUT, Connect
from tests.bus.standin import label

pytestmark = pytest.mark.timeout(60)

UNITS = ["a.service", "busy.service", r"a\x2db@c-d.service", "0.service"]
CALLS: dict[str, Callable[[SystemdBus], object]] = {
    "version": lambda bus: bus.version(),
    "unit_path": lambda bus: bus.unit_path(),
    "default_memory_accounting": lambda bus: bus.default_memory_accounting(),
    "reading": lambda bus: bus.reading(),
    "unit_files": lambda bus: bus.unit_files("*"),
    "units": lambda bus: bus.units("*"),
    "load": lambda bus: bus.load(["a.service"]),
    "properties": lambda bus: bus.properties(UNITS, UNIT, ("Names",)),
    "reload": lambda bus: bus.reload(),
    "jobs": lambda bus: bus.jobs(),
    "reset_failed": lambda bus: bus.reset_failed("a.service"),
}


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds


def test_reading(systemd: Connect) -> None:
    bus = systemd(units=UNITS, timeout=10)
    assert bus.version() == 252
    assert bus.unit_path() == (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"))
    assert bus.default_memory_accounting() is True
    (row,) = bus.unit_files("*")
    assert (row.name, row.state) == ("a.service", "enabled")
    rows = bus.units("*")
    assert [(r.name, r.load_state, r.active_state, r.sub_state, r.job) for r in rows] == [
        (name, "loaded", "active", "running", "restart" if name == "busy.service" else "") for name in UNITS
    ]
    assert [r.name for r in bus.load(["x.service", "y.service"])] == ["x.service", "y.service"]
    assert bus.jobs() == {7: "busy.service"}
    bus.reset_failed("a.service")
    bus.reload()


@pytest.mark.parametrize("outdated", [False, True])
def test_the_last_reading_of_all_files(systemd: Connect, outdated: bool) -> None:
    bus = systemd(timeout=10, outdated=outdated)
    assert bus.reading() == Reading(1_700_000_000.25, 12.5, outdated, "kill")


def test_properties(systemd: Connect) -> None:
    bus = systemd(units=UNITS, timeout=10)
    found = bus.properties(UNITS, SERVICE, ("Slice", "ControlGroup", "NoSuchProperty"))
    assert found == {unit: {"Slice": "system.slice", "ControlGroup": f"/system.slice/{unit}"} for unit in UNITS}
    assert bus.properties(UNITS[:1], UNIT, ("Names", "Transient")) == {
        "a.service": {"Names": ["a.service"], "Transient": False}
    }
    assert bus.properties([], UNIT, ("Names",)) == {}
    assert list(bus.properties([UNITS[0], UNITS[0]], UNIT, ("Names",))) == [UNITS[0]], "named twice, asked once"


@pytest.mark.parametrize("unit", [*UNITS, "", "_.service", "9a@\\.service", "é.service"])
def test_object_paths(unit: str) -> None:
    if unit:
        assert object_path(unit) == label(unit)
    else:
        assert object_path(unit).endswith("/unit/_")


@pytest.mark.parametrize(
    ("text", "version"),
    [("252.39-1~deb12u2", 252), ("v257.13", 257), ("262", 262), ("262~rc1-1", 262), ("254 (254.5-1.fc39)", 254)],
)
def test_versions(systemd: Connect, text: str, version: int) -> None:
    assert systemd(version=text, timeout=10).version() == version


@pytest.mark.parametrize("text", ["", "systemd", "v", "-1", "x252"])
def test_versions_that_mean_nothing(systemd: Connect, text: str) -> None:
    with pytest.raises(HostUnsuitable, match="is not understood"):
        systemd(version=text, timeout=10).version()


def test_jobs_are_queued_for_many_units(systemd: Connect) -> None:
    units = [f"u{number}.service" for number in range(300)]
    bus = systemd(timeout=10)
    queued = bus.enqueue("try-restart", units)
    assert sorted(queued) == sorted(units)
    assert sorted(job for job in queued.values() if isinstance(job, int)) == list(range(101, 401))
    # The mode goes over the bus: only with ignore-requirements may a layer be stopped.
    (job,) = bus.enqueue("stop", ["a.slice"], "ignore-requirements").values()
    assert isinstance(job, int) and job > 9000


def test_one_refusal_among_many(systemd: Connect) -> None:
    refusal = ("org.freedesktop.systemd1.NoSuchUnit", "Unit gone.service not found.")
    bus = systemd(errors={"gone.service": refusal}, timeout=10)
    queued = bus.enqueue("start", ["a.service", "gone.service", "b.service"])
    error = queued["gone.service"]
    assert isinstance(error, BusError) and not isinstance(error, BusTimeout)
    assert error.name == refusal[0]
    assert str(error) == "systemd refused StartUnit of gone.service: Unit gone.service not found."
    assert isinstance(queued["a.service"], int) and isinstance(queued["b.service"], int)


def test_one_silence_among_many(systemd: Connect) -> None:
    bus = systemd(silent=["slow.service"])
    with at_most(10):
        queued = bus.enqueue("restart", ["a.service", "slow.service", "b.service"])
    assert isinstance(queued["slow.service"], BusTimeout)
    assert isinstance(queued["a.service"], int) and isinstance(queued["b.service"], int)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org.freedesktop.DBus.Error.AccessDenied", "Permission denied"),
        ("org.freedesktop.DBus.Error.LimitsExceeded", "The maximum number of pending replies per connection"),
        ("org.freedesktop.systemd1.ReloadLimitReached", "Reload rate limit."),
        ("org.freedesktop.systemd1.UnitMasked", "Unit a.service is masked."),
        ("org.freedesktop.DBus.Error.Failed", "line one\nline two \x1b[31m"),
    ],
)
def test_refusals_keep_their_name(systemd: Connect, name: str, message: str) -> None:
    bus = systemd(errors={"Reload": (name, message), "ListJobs": (name, message)}, timeout=10)
    for call in (bus.reload, bus.jobs):
        with pytest.raises(BusError) as caught:
            call()
        assert not isinstance(caught.value, BusTimeout)
        assert (caught.value.name, caught.value.message) == (name, message)
        assert str(caught.value).startswith("systemd refused ") and "GDBus" not in str(caught.value)


@pytest.mark.parametrize("name", ["org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Timeout"])
def test_a_timeout_that_somebody_else_saw(systemd: Connect, name: str) -> None:
    bus = systemd(errors={"Reload": (name, "Did not receive a reply.")}, timeout=10)
    with pytest.raises(BusError):
        bus.reload()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_every_call_ends_when_systemd_hangs(systemd: Connect, call: Callable[[SystemdBus], object]) -> None:
    bus = systemd(hangs=True, units=UNITS)
    with at_most(TIMEOUT + 5), pytest.raises(BusTimeout, match=f"within {TIMEOUT:g} s") as caught:
        call(bus)
    assert "SYSTEMD_BUS_TIMEOUT=" in caught.value.hint


def test_many_calls_wait_for_each_other(systemd: Connect) -> None:
    """systemd answers one after the other: the last one has waited for all before it, and that is no hang."""
    units = [f"u{number}.service" for number in range(40)]
    found = systemd(units=units, slow=0.1, timeout=2).properties(units, UNIT, ("Names",))
    assert found == {unit: {"Names": [unit]} for unit in units}


def test_many_calls_end_at_once_when_systemd_hangs(systemd: Connect) -> None:
    units = [f"u{number}.service" for number in range(100)]
    with at_most(TIMEOUT + 5):
        queued = systemd(hangs=True).enqueue("start", units)
    assert sorted(queued) == sorted(units) and all(isinstance(error, BusTimeout) for error in queued.values())


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "try-restart"])
def test_every_job_call_ends_when_systemd_hangs(systemd: Connect, verb: str) -> None:
    with at_most(TIMEOUT + 5):
        queued = systemd(hangs=True).enqueue(verb, UNITS)
    assert list(queued) and all(isinstance(error, BusTimeout) for error in queued.values())
    assert sorted(queued) == sorted(UNITS)


def test_the_reload_has_a_timeout_of_its_own(systemd: Connect, address: str) -> None:
    systemd(silent=["Reload", "ListJobs"])
    bus = SystemdBus(pydbus.connect(address).con, 0.2, 1.5)
    begin = time.monotonic()
    with pytest.raises(BusTimeout, match=r"within 0\.2 s"):
        bus.jobs()
    assert time.monotonic() - begin < 1.4
    with pytest.raises(BusTimeout, match=r"Reload within 1\.5 s"):
        bus.reload()
    assert time.monotonic() - begin > 1.5


def test_nobody_is_there(address: str) -> None:
    bus = SystemdBus(pydbus.connect(address).con, TIMEOUT, TIMEOUT)
    for call in CALLS.values():
        with pytest.raises(BusError):
            call(bus)


def test_systemd_dies_in_mid_call(systemd: Connect) -> None:
    bus = systemd(dies=["Reload"], timeout=20)
    with at_most(10), pytest.raises(BusError):
        bus.reload()


@pytest.mark.parametrize(
    ("method", "call"), [("Reload", "reload"), ("ListJobs", "jobs"), ("ListUnitsByPatterns", "units")]
)
def test_systemd_leaves_in_mid_call_and_comes_again(systemd: Connect, method: str, call: str) -> None:
    """As when it is re-executed: what it did not answer is asked once more."""
    bus = systemd(dies=[method], units=UNITS, timeout=20)
    systemd(waits=True, units=UNITS)
    with at_most(10):
        CALLS[call](bus)


def test_jobs_that_systemd_may_have_taken_are_not_asked_for_twice(systemd: Connect) -> None:
    bus = systemd(dies=["RestartUnit"], units=UNITS, timeout=20)
    systemd(waits=True, units=UNITS)
    (answer,) = bus.enqueue("restart", UNITS[:1]).values()
    assert isinstance(answer, BusLost)
    (answer,) = bus.enqueue("start", UNITS[:1]).values()
    assert isinstance(answer, int)


def test_units_that_are_not_there(systemd: Connect) -> None:
    with pytest.raises(BusError) as caught:
        systemd(units=["a.service"], timeout=10).properties(["a.service", "b.service"], UNIT, ("Names",))
    assert "b.service" in str(caught.value)


def test_a_very_long_list(systemd: Connect) -> None:
    rows = systemd(count=5_000, timeout=30).units("*")
    assert len(rows) == 5_000 and rows[-1].name == "u4999.service"


def test_very_long_values(systemd: Connect) -> None:
    bus = systemd(units=["a.service"], more=1_000_000, timeout=30)
    found = bus.properties(["a.service"], SERVICE, ("Slice",))
    assert found == {"a.service": {"Slice": "system.slice" + "x" * 1_000_000}}


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
