# SPDX-License-Identifier: LGPL-2.1-or-later
"""When the monitor looks and what it starts: storms, moments, what is tried again, with a clock of our own."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_layering.config.model import Config
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.kernel.inotify import Change, Inotify
from cgroup_layering.lifetime.agenda import (
    AT_MOST,
    GRACE,
    QUIET,
    RELOAD_AT_MOST,
    RETRY,
    Agenda,
    Debounce,
    is_work,
    moment,
)
from cgroup_layering.lifetime.layers import LayerState
from cgroup_layering.lifetime.monitor import AGAIN, GAP, REAP, Monitor
from cgroup_layering.lifetime.newcomers import Settled, newcomers
from cgroup_layering.lifetime.notify import Service
from cgroup_layering.lifetime.rules import Standing, parse_rule
from cgroup_layering.lifetime.steps import Step, steps
from cgroup_layering.model import OwnFiles
from cgroup_layering.own import BOOT_TARGET, drop_in_path, read_back
from cgroup_layering.render import drop_in_text, slice_text
from cgroup_layering.store import Store
from cgroup_layering.systemd.events import Event, Notice, What
from cgroup_layering.systemd.manager import UNIT, BusError, UnitFileRow, UnitRow
from tests.layerings import layering

ETC = Path("/etc/systemd/system")


def test_a_storm_is_one_look() -> None:
    debounce = Debounce()
    assert [debounce.moment] == [None]
    debounce.note(100.0)
    assert debounce.moment == 100.0 + QUIET
    debounce.note(100.3)
    assert debounce.moment == 100.3 + QUIET
    for tenth in range(100):
        debounce.note(100.3 + tenth / 10)
    assert debounce.moment == 100.0 + AT_MOST, "a storm that never ends is looked at all the same"
    debounce.done()
    assert debounce.moment is None


def test_a_reload_is_waited_for_but_not_for_ever() -> None:
    debounce = Debounce()
    debounce.reloading(100.0)
    debounce.note(100.0)
    assert debounce.moment == 100.0 + RELOAD_AT_MOST
    debounce.reloaded()
    debounce.note(101.0)
    assert debounce.moment == 101.0 + QUIET


def own(unit: str = "hello.service", lifetime: str = "") -> OwnFiles:
    planned = layering(unit, lifetime=lifetime)
    found = read_back(ETC / planned.layer, slice_text(planned), "")
    assert found is not None
    # A layer that is forever has its link into the boot.
    return replace(found, wanted_by=BOOT_TARGET, linked=True) if lifetime == "forever" else found


def step(lifetime: str = "installed", gone: str = "", dying: int = 0, unit: str = "hello.service", **now: Any) -> Step:
    files = own(unit, lifetime)
    standing = replace(Standing(not gone, False, True, 0.0, 0), **now)
    (found,) = steps([LayerState(files.layer, unit, files, standing, True, gone, dying=dying)], Config(), "6.12")
    return found


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (step("installed"), None),
        (step("boot"), None),
        (step("forever"), None),
        (step("forever", exists=False), 1000.0),
        (step("idle=1d", running=True), None),
        (step("idle=1d", exists=False), None),
        (step("idle=1d", inactive_seconds=86000), 1400.0),
        (step("idle=1d", inactive_seconds=86400), 1000.0),
        (step("charged=1M", charged_bytes=1 << 20), 1000.0 + RETRY),
        (step("charged=1M", charged_bytes=1), 1000.0),
        (step("idle=1h charged=1M", charged_bytes=1 << 20), 4600.0),
        (step("idle=1h charged=1M", charged_bytes=1 << 20, inactive_seconds=3600), 1000.0 + RETRY),
        (step("installed", gone="gone"), 1000.0 + GRACE),
        (step("installed", gone="gone", exists=False), 1000.0 + GRACE),
        (step("installed", dying=1000, running=True), 1000.0),
    ],
)
def test_moments(what: Step, expected: float | None) -> None:
    assert moment(what, 1000.0) == expected


@given(
    st.sampled_from(("installed", "boot", "forever", "idle=1h", "charged=1M", "idle=1h charged=1M")),
    st.builds(Standing, st.booleans(), st.booleans(), st.booleans(), st.floats(0, 1e5), st.integers(0, 1 << 21)),
)
def test_at_its_moment_a_rule_holds_or_is_looked_at_later(rule: str, now: Standing) -> None:
    """No moment may be due at once and have nothing to do: that would be a loop."""
    files = own(lifetime=rule)
    (found,) = steps([LayerState(files.layer, files.unit, files, now, True)], Config(), "7.2")
    when = moment(found, 0.0)
    if when is not None and when <= 0.0:
        assert is_work(found)
    if parse_rule(rule).kind in ("installed", "boot") and now.installed:
        assert when is None


def test_what_was_tried_waits_unless_its_service_moves() -> None:
    agenda, due = Agenda(), step("charged=1M")
    layer = due.state.layer
    agenda.update([due], None, 100.0)
    assert agenda.due(100.0) == ({layer}, set())
    agenda.tried({layer}, 100.0)
    agenda.update([due], None, 101.0)
    assert agenda.due(101.0) == (set(), set()) and [agenda.next] == [100.0 + RETRY]
    agenda.forget_tries(layer)
    agenda.update([due], {layer}, 102.0)
    assert agenda.due(102.0) == ({layer}, set())
    agenda.tried({layer}, 102.0)
    agenda.update([], {layer}, 103.0)
    assert [agenda.next] == [None], "it is gone"
    agenda.update([due], {layer}, 104.0)
    assert agenda.due(104.0) == ({layer}, set()), "and is there again"


def test_a_try_of_one_thing_is_none_of_another() -> None:
    """The layer goes by its rule; while that is done the service is taken from the system, and its files are due."""
    agenda, idle, gone = Agenda(), step("charged=1M"), step("charged=1M", gone="gone", exists=False)
    layer = idle.state.layer
    agenda.update([idle], None, 100.0)
    agenda.tried({layer}, 100.0)
    for second in range(101, 105):
        agenda.update([gone], None, float(second))
    assert agenda.next == 101.0 + GRACE
    agenda.tried({layer}, 120.0)
    agenda.update([gone], None, 121.0)
    assert agenda.next == 120.0 + RETRY, "and that was tried now"


def test_dying_cgroups_are_not_drained_at_every_restart() -> None:
    agenda, due = Agenda(), step("installed", dying=1000, running=True)
    layer = due.state.layer
    agenda.update([due], None, 100.0)
    agenda.tried({layer}, 100.0)
    agenda.forget_tries(layer)
    agenda.update([due], {layer}, 101.0)
    assert agenda.next == 100.0 + RETRY


def test_grace_is_counted_from_the_first_look() -> None:
    agenda, gone = Agenda(), step(gone="gone")
    for second in range(8):
        agenda.update([gone], None, 100.0 + second)
        assert agenda.due(100.0 + second) == (set(), set())
    assert [agenda.next] == [100.0 + GRACE]
    agenda.update([step()], None, 109.0)
    assert [agenda.next] == [None], "it came back"
    agenda.update([gone], None, 200.0)
    assert agenda.next == 200.0 + GRACE


def test_a_partial_look_leaves_the_others_alone() -> None:
    agenda, one, two = Agenda(), step("idle=1h"), step("idle=2h", unit="other.service")
    agenda.update([one, two], None, 0.0)
    agenda.update([step("idle=1h", running=True)], {one.state.layer}, 1.0)
    assert agenda.next == 7200.0


FILES = [
    UnitFileRow(ETC / name, state)
    for name, state in (
        ("a.service", "enabled"), ("b.service", "static"), ("masked.service", "masked"), ("t@.service", "indirect"),
        ("run-u1.service", "transient"), ("other-name.service", "alias"), ("layered.service", "enabled"),
        ("shut.service", "disabled"),
    )
]  # fmt: skip
LOADED = [
    UnitRow("t@1.service", "loaded", "active", "running"),
    UnitRow("t@2.service", "not-found", "inactive", "dead"),
]


def test_newcomers_are_plain_and_wanted() -> None:
    config = replace(Config(), auto=True, autos=(("shut*", False),))
    assert newcomers(FILES, LOADED, {"layered.service"}, config) == {"a.service", "b.service", "t@1.service"}
    assert newcomers(FILES, LOADED, (), Config()) == frozenset()
    some = replace(Config(), autos=(("sh*", True),))
    assert newcomers(FILES, LOADED, (), some) == {"shut.service"}


def test_what_a_run_left_plain_is_no_news_until_its_file_changes() -> None:
    settled, found = Settled(), {"a.service", "t@1.service"}
    assert settled.left(found) == found
    settled.begin()
    settled.end(found)
    assert settled.left({*found, "t@2.service"}) == set()
    settled.changed("a.service.d")
    settled.changed("t@.service")
    assert settled.left(found) == found
    settled.begin()
    settled.changed("a.service")
    settled.end(found)
    assert settled.left(found) == {"a.service"}, "it changed while the run was at work"
    settled.begin()
    settled.end({"b.service"})
    settled.end({"b.service", "a.service"})
    assert settled.left(found) == set(), "templates stay known: connections come and go"


def test_names_that_are_no_services_are_not_minded() -> None:
    settled = Settled()
    settled.begin()
    settled.end({"a.service"})
    for name in ("", "a.slice", "service.d", "multi-user.target.wants", "system-a.service.slice", ".#a.service"):
        settled.changed(name)
    assert settled.knows("a.service")


def test_folders_are_watched_and_waited_for(tmp_path: Path) -> None:
    here, later = tmp_path / "here", tmp_path / "a" / "b"
    here.mkdir()
    watch = Inotify()
    watch.watch((here, later))
    assert watch.read() == []
    (here / "x.service").write_text("")
    (here / "x.service").unlink()
    assert {change.name for change in watch.read()} == {"x.service"}
    (tmp_path / "unrelated").mkdir()
    assert watch.read() == []
    later.parent.mkdir()
    assert watch.read() == [Change(tmp_path, "a")]
    watch.watch((here, later))
    later.mkdir()
    assert watch.read() == [Change(later.parent, "b")]
    watch.watch((here, later))
    (later / "y.slice").symlink_to("/dev/null")
    assert watch.read() == [Change(later, "y.slice")]
    here.rmdir()
    assert Change(here, "") in watch.read()
    os.close(watch.fileno())


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
        files = own(lifetime="idle=10s")
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
