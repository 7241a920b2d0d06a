# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd's signals over a real bus: each kind, what is not listened to, and connections that are lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pydbus
import pytest

from cgroup_layering.errors import HostUnsuitable
from cgroup_layering.systemd.bus import SystemdBus
from cgroup_layering.systemd.connecting import connect_apart
from cgroup_layering.systemd.events import Event, What
from cgroup_layering.systemd.manager import SERVICE, UNIT
from cgroup_layering.systemd.objectpath import object_path, unit_of
from cgroup_layering.systemd.signals import SystemdSignals
from tests.bus.conftest import Connect

pytestmark = pytest.mark.timeout(60)

JOB = "/org/freedesktop/systemd1/job/7"


def listen(events: SystemdSignals, until: Callable[[Event], bool]) -> list[Event]:
    """Everything that is told up to the event that is waited for."""
    heard: list[Event] = []

    def note(event: Event) -> None:
        heard.append(event)
        if until(event):
            events.stop()

    events.run(note)
    return heard


@pytest.mark.parametrize("unit", ["a.service", "a\\x2db@c-d.service", "0.service", "é.service", "-.slice", "_.slice"])
def test_object_paths_lead_back_to_units(unit: str) -> None:
    assert unit_of(object_path(unit)) == unit


@pytest.mark.parametrize("path", ["/", "/org/freedesktop/systemd1/job/7", "/org/freedesktop/systemd1/unit/a_zz"])
def test_other_paths_lead_to_none(path: str) -> None:
    assert unit_of(path) == ""


def test_every_signal_becomes_an_event(systemd: Connect) -> None:
    path = object_path("a.service")
    bus = systemd(
        timeout=10,
        signals=[
            ["Reloading", "(b)", [True]],
            ["UnitRemoved", "(so)", ["a.service", path]],
            ["UnitNew", "(so)", ["a.service", path]],
            ["JobNew", "(uos)", [7, JOB, "a.service"]],
            ["JobRemoved", "(uoss)", [7, JOB, "a.service", "failed"]],
            ["UnitFilesChanged", "", []],
            ["Reloading", "(b)", [False]],
        ],
        changes=[
            ["a.service", SERVICE, {"Result": "success"}],
            ["a\\x2db@c.service", UNIT, {"SubState": "dead"}],
            ["a\\x2db@c.service", UNIT, {"SubState": "dead", "ActiveState": "inactive"}],
        ],
    )
    events = SystemdSignals(lambda: bus)
    heard = listen(events, lambda event: event.what is What.UNIT_CHANGED)
    assert heard == [
        Event(What.CONNECTED),
        Event(What.RELOADING),
        Event(What.UNIT_REMOVED, "a.service"),
        Event(What.UNIT_NEW, "a.service"),
        Event(What.JOB_REMOVED, "a.service", "failed"),
        Event(What.UNIT_FILES_CHANGED),
        Event(What.RELOADED),
        Event(What.UNIT_CHANGED, "a\\x2db@c.service", "inactive"),
    ]


def test_a_subscription_that_is_there_already_is_no_error(systemd: Connect) -> None:
    refusal = ("org.freedesktop.systemd1.AlreadySubscribed", "Client is already subscribed.")
    bus = systemd(timeout=10, errors={"Subscribe": refusal})
    events = SystemdSignals(lambda: bus)
    assert listen(events, lambda _event: True) == [Event(What.CONNECTED)]
    assert events.manager is bus


def test_a_lost_connection_is_made_again(systemd: Connect, address: str) -> None:
    """As with a restarted bus: the connection is closed, the first tries to get another fail, a later one does not."""
    first = systemd(timeout=10)
    tries = [HostUnsuitable("no bus"), HostUnsuitable("no bus")]

    def connect() -> SystemdBus:
        if first.connection.is_closed():
            if tries:
                raise tries.pop()
            return SystemdBus(pydbus.connect(address).con, 10, 10)
        return first

    events = SystemdSignals(connect, retry=0.05)
    lost: list[bool] = []

    def note(event: Event) -> bool:
        if event.what is What.LOST:
            lost.append(events.manager is None)
        elif event.what is What.CONNECTED and not lost:
            first.connection.close(None, None)
        return event.what is What.CONNECTED and bool(lost)

    heard = listen(events, note)
    assert [event.what for event in heard] == [What.CONNECTED, What.LOST, What.CONNECTED]
    assert lost == [True] and not tries
    assert events.manager is not None and events.manager is not first


def test_a_systemd_that_goes_and_comes_is_asked_anew(systemd: Connect) -> None:
    """As with daemon-reexec: the connection to the bus holds, and the name has another owner."""
    bus = systemd(timeout=10)
    old = systemd.process  # type: ignore[attr-defined]
    events = SystemdSignals(lambda: bus)
    seen: list[What] = []

    def note(event: Event) -> bool:
        seen.append(event.what)
        if seen == [What.CONNECTED]:
            old.kill()
        elif event.what is What.LOST:
            systemd(timeout=10)
        return seen.count(What.CONNECTED) == 2

    listen(events, note)
    assert seen == [What.CONNECTED, What.LOST, What.CONNECTED]


def test_a_connection_of_its_own(systemd: Connect, address: str, tmp_path: Path) -> None:
    """GLib ends a process that loses the connection which it shares; this one must outlive a bus."""
    systemd(timeout=10)
    path = Path(address.partition("unix:path=")[2].partition(",")[0])
    bus = connect_apart(10, 10, path, tmp_path)
    assert bus.version() == 252 and bus.connection.get_exit_on_close() is False
    with pytest.raises(HostUnsuitable, match="Cannot connect"):
        connect_apart(10, 10, tmp_path / "none", tmp_path)
    with pytest.raises(HostUnsuitable, match="not booted with systemd"):
        connect_apart(10, 10, path, tmp_path / "none")


def test_the_first_connection_must_be_had(systemd: Connect) -> None:
    def connect() -> SystemdBus:
        raise HostUnsuitable("There is no bus.")

    with pytest.raises(HostUnsuitable):
        SystemdSignals(connect).run(lambda _event: None)


def test_signals_of_the_kernel_end_the_waiting(systemd: Connect) -> None:
    """Python runs a handler only when it is back from GLib, which would wait for ever."""
    bus = systemd(timeout=10)
    events = SystemdSignals(lambda: bus)
    before = signal.signal(signal.SIGUSR1, lambda *_: events.stop())
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))

    def note(event: Event) -> None:
        if event.what is What.CONNECTED:
            timer.start()

    try:
        events.run(note)
    finally:
        signal.signal(signal.SIGUSR1, before)
    timer.join()
    assert signal.set_wakeup_fd(-1) == -1, "nothing is left of it"


def test_stopped_before_it_waits(systemd: Connect) -> None:
    """As by a SIGTERM that comes while it connects."""
    bus = systemd(timeout=10)

    def connect() -> SystemdBus:
        events.stop()
        return bus

    events = SystemdSignals(connect)
    heard: list[Event] = []
    events.run(heard.append)
    assert heard == []


def test_descriptors_and_moments(systemd: Connect) -> None:
    bus = systemd(timeout=10)
    events = SystemdSignals(lambda: bus)
    end, start = os.pipe()
    events.watch(end)
    seen: list[What] = []

    def note(event: Event) -> bool:
        seen.append(event.what)
        if event.what is What.CONNECTED:
            events.wake(0.01)
            events.wake(None)
            events.wake(3600)
            events.wake(0.02)
        elif event.what is What.MOMENT:
            os.write(start, b"x")
        return event.what is What.READABLE

    listen(events, note)
    os.close(start)
    assert seen == [What.CONNECTED, What.MOMENT, What.READABLE]
