# SPDX-License-Identifier: LGPL-2.1-or-later
"""What wakes the monitor and what it starts then, with a systemd and a clock of our own."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.kernel.inotify import Inotify
from cgroup_layering.lifetime.agenda import (
    QUIET,
    RETRY,
)
from cgroup_layering.lifetime.monitor import AGAIN, GAP, REAP, Monitor
from cgroup_layering.lifetime.notify import Service
from cgroup_layering.own import drop_in_path
from cgroup_layering.render import drop_in_text
from cgroup_layering.store import Store
from cgroup_layering.systemd.events import Event, Notice, What
from cgroup_layering.systemd.manager import UNIT, BusError, UnitFileRow, UnitRow
from tests.layerings import layering, own_files

ETC = Path("/etc/systemd/system")


class FakeEvents:
    """Events that a test tells of by hand."""

    def __init__(self, manager: FakeManager) -> None:
        self.manager: Any = manager
        self.seconds: float | None = None

    def watch(self, descriptor: int) -> None:
        pass

    def wake(self, seconds: float | None) -> None:
        self.seconds = seconds

    def run(self, notice: Notice) -> None:
        pass

    def stop(self) -> None:
        pass


class FakeManager:
    """A systemd with one service in one state."""

    def __init__(self) -> None:
        self.state: dict[str, dict[str, object]] = {REAP: {"LoadState": "loaded", "ActiveState": "inactive"}}
        self.files: list[UnitFileRow] = []
        self.started = 0
        self.asked = 0
        self.refusal: BusError | None = None

    def unit_path(self) -> tuple[Path, ...]:
        return (ETC,)

    def unit_files(self, pattern: str) -> list[UnitFileRow]:
        return self.files

    def units(self, pattern: str) -> list[UnitRow]:
        return []

    def load(self, names: Any) -> list[UnitRow]:
        self.asked += any(name.endswith(".slice") for name in names)
        facts = self.properties(names, UNIT, ())
        return [UnitRow(name, str(known["LoadState"]), str(known["ActiveState"]), "") for name, known in facts.items()]

    def properties(self, units: Any, interface: str, names: Any) -> dict[str, dict[str, object]]:
        return {unit: self.state.get(unit, {"LoadState": "loaded", "ActiveState": "active"}) for unit in units}

    def enqueue(self, verb: str, units: list[str], mode: str = "replace") -> dict[str, int | BusError]:
        assert (verb, units) == ("start", [REAP])
        if self.refusal is not None:
            return {REAP: self.refusal}
        self.started += 1
        return {REAP: 1}


class Scene:
    """A monitor on a host with one layered service whose lifetime is idle=10s, and the time."""

    def __init__(self, root: Path) -> None:
        self.now = 1000.0
        self.told: list[str] = []
        folder = root / "etc/systemd/system"
        folder.mkdir(parents=True)
        files = own_files(lifetime="idle=10s")
        (folder / files.layer).write_text(files.slice_text)
        drop_in = drop_in_path(folder, files.unit)
        drop_in.parent.mkdir()
        drop_in.write_text(drop_in_text(layering()))
        (root / "sys").mkdir()
        (root / "sys/cgroup.controllers").write_text("memory\n")
        (root / "sys/system.slice" / files.layer).mkdir(parents=True)
        self.manager = FakeManager()
        self.stop_service(at=990.0)
        self.events = FakeEvents(self.manager)
        self.root = root
        self.monitor = Monitor(
            Store(root), CgroupFS(root / "sys"), self.events, Inotify(), Service(), self.told.append, lambda: self.now
        )

    def stop_service(self, at: float) -> None:
        facts: dict[str, object] = {"LoadState": "loaded", "ActiveState": "inactive"}
        self.manager.state["hello.service"] = {**facts, "InactiveEnterTimestampMonotonic": int(at * 1e6)}

    def tell(self, what: What, unit: str = "", state: str = "") -> None:
        self.monitor.notice(Event(what, unit, state))

    def sleep(self, most: float = 1e9) -> None:
        """Until the monitor wakes up by itself."""
        assert self.events.seconds is not None, "it would sleep for ever"
        assert self.events.seconds <= most
        self.now += max(0.0, self.events.seconds)
        self.tell(What.MOMENT)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_nothing_before_systemd_can_be_asked(scene: Scene) -> None:
    scene.events.manager = None
    scene.tell(What.READABLE)
    assert scene.events.seconds is None and scene.manager.started == 0


def test_an_idle_layer_wakes_the_monitor_once(scene: Scene) -> None:
    scene.stop_service(at=999.0)
    scene.tell(What.CONNECTED)
    scene.sleep(QUIET)
    assert scene.manager.started == 0 and scene.events.seconds == pytest.approx(8.5)
    scene.sleep()
    assert scene.manager.started == 1
    assert scene.told == [f"Starting {REAP} for system-hello.service.slice."]
    scene.tell(What.JOB_REMOVED, REAP, "done")
    scene.sleep(QUIET)
    assert scene.manager.started == 1, "what reap left in place is not tried at once"
    assert scene.events.seconds == pytest.approx(RETRY - QUIET)


def test_a_service_that_systemd_has_forgotten_is_idle_since_its_cgroup_went(scene: Scene) -> None:
    scene.manager.state["hello.service"] = {"LoadState": "loaded", "ActiveState": "inactive"}
    folder = scene.root / "sys/system.slice/system-hello.service.slice"
    os.utime(folder, (time.time() - 4, time.time() - 4))
    scene.tell(What.CONNECTED)
    scene.sleep()
    assert scene.manager.started == 0 and scene.events.seconds == pytest.approx(6, abs=1)
    os.utime(folder, (time.time() - 11, time.time() - 11))
    scene.sleep()
    assert scene.manager.started == 1


def test_a_storm_is_one_look_at_the_host(scene: Scene) -> None:
    scene.manager.state["hello.service"] = {"LoadState": "loaded", "ActiveState": "active"}
    scene.tell(What.CONNECTED)
    scene.sleep()
    asked = scene.manager.asked
    scene.tell(What.RELOADING)
    for number in range(300):
        scene.tell(What.UNIT_REMOVED, f"u{number}.service")
        scene.tell(What.UNIT_NEW, f"u{number}.service")
        scene.tell(What.UNIT_CHANGED, "hello.service", "active")
    assert scene.manager.asked == asked
    scene.tell(What.RELOADED)
    scene.sleep(QUIET)
    assert scene.manager.asked == asked + 1 and scene.events.seconds is None, "and then it sleeps"


def test_units_without_a_layer_wake_nothing_up(scene: Scene) -> None:
    scene.manager.state["hello.service"] = {"LoadState": "loaded", "ActiveState": "active"}
    scene.tell(What.CONNECTED)
    scene.sleep()
    for what in (What.UNIT_CHANGED, What.UNIT_NEW, What.UNIT_REMOVED, What.JOB_REMOVED):
        scene.tell(what, "plain.service", "active")
        assert scene.events.seconds is None, what


def test_a_run_of_the_timer_is_waited_for(scene: Scene) -> None:
    scene.manager.state[REAP] = {"LoadState": "loaded", "ActiveState": "activating"}
    scene.tell(What.CONNECTED)
    scene.sleep()
    assert scene.manager.started == 0
    scene.manager.state[REAP] = {"LoadState": "loaded", "ActiveState": "inactive"}
    scene.tell(What.JOB_REMOVED, REAP, "done")
    scene.sleep(QUIET)
    assert scene.manager.started == 1, "it may have begun before: what is due is still done"


def test_a_killed_run_is_repeated_and_a_failed_one_later(scene: Scene) -> None:
    scene.tell(What.CONNECTED)
    scene.sleep()
    assert scene.manager.started == 1
    scene.manager.state[REAP] |= {"Result": "signal"}
    scene.tell(What.JOB_REMOVED, REAP, "failed")
    scene.sleep()
    while scene.manager.started == 1:
        scene.sleep(AGAIN)
    assert scene.now < 1000.0 + AGAIN + 2 * GAP
    scene.manager.state[REAP] |= {"Result": "exit-code"}
    scene.tell(What.JOB_REMOVED, REAP, "failed")
    began = scene.now
    while scene.manager.started == 2:
        scene.sleep()
    assert scene.now - began >= RETRY - AGAIN


def test_a_refused_start_is_told_and_tried_again(scene: Scene) -> None:
    scene.manager.refusal = BusError("StartUnit", "x", "no")
    scene.tell(What.CONNECTED)
    scene.sleep()
    assert "systemd refused StartUnit" in scene.told[0]
    scene.manager.refusal = None
    while scene.manager.started == 0:
        scene.sleep(AGAIN)


@pytest.mark.parametrize("state", ["not-found", "masked"])
def test_without_the_unit_that_works_it_says_so(scene: Scene, state: str) -> None:
    scene.manager.state[REAP] = {"LoadState": state, "ActiveState": "inactive"}
    scene.tell(What.CONNECTED)
    scene.sleep()
    assert f"{REAP} is {state}" in scene.told[0] and scene.manager.started == 0


def test_newcomers_are_handed_to_reap_once(scene: Scene) -> None:
    scene.manager.state["hello.service"] = {"LoadState": "loaded", "ActiveState": "active"}
    folder = scene.root / "etc/cgroup-layering"
    folder.mkdir()
    (folder / "a.toml").write_text("[layering]\nauto = true\n")
    scene.manager.files = [UnitFileRow(ETC / "new.service", "disabled")]
    scene.tell(What.CONNECTED)
    scene.sleep()
    assert scene.manager.started == 1 and "for new.service" in scene.told[0]
    scene.tell(What.JOB_REMOVED, REAP, "done")
    scene.sleep()
    assert (scene.events.seconds, scene.manager.started) == (None, 1), "it can't be layered, then"
    scene.tell(What.RELOADED)
    scene.sleep()
    assert (scene.events.seconds, scene.manager.started) == (None, 1)


def test_a_wrong_configuration_is_told_and_waits(scene: Scene) -> None:
    folder = scene.root / "etc/cgroup-layering"
    folder.mkdir()
    (folder / "a.toml").write_text("[layering]\nauto = 1\n")
    scene.tell(What.CONNECTED)
    scene.sleep()
    assert "a.toml:2: `auto` takes true or false" in scene.told[0] and scene.manager.started == 0
    (folder / "a.toml").write_text("")
    while scene.manager.started == 0:
        scene.sleep(AGAIN)
