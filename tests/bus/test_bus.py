# SPDX-License-Identifier: LGPL-2.1-or-later
"""The calls to systemd over a real bus: good answers, refusals, silence."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pydbus
import pytest

from cgroup_layering.errors import HostUnsuitable
from cgroup_layering.systemd.bus import SystemdBus
from cgroup_layering.systemd.manager import SERVICE, UNIT, BusError, BusLost, BusTimeout, Reading
from cgroup_layering.systemd.objectpath import object_path
from tests.bus.calls import CALLS, UNITS, at_most
from tests.bus.conftest import TIMEOUT, Connect
from tests.bus.standin import label

pytestmark = pytest.mark.timeout(60)


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
