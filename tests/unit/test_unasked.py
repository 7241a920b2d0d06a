# SPDX-License-Identifier: LGPL-2.1-or-later
"""Of which services nothing is asked: files on disk, older and newer than systemd's last reading of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from cgroup_layering.host import Reader, Settings
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.model import Host, Layering, Tracking
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import SERVICE, UNIT, Manager, Reading, UnitRow
from cgroup_layering.transaction import FileTransaction
from tests.planting import ETC, LIB, SIMPLE, put

RUNNING = ("active", "running")
DEAD = ("inactive", "dead")
TICKS = 0.06
"""Seconds after which a file's time stamp is older than the clock, for any kernel."""


class Systemd:
    """A manager that has read the files once, and remembers what it was asked."""

    def __init__(self, root: Path, states: Mapping[str, tuple[str, str]]) -> None:
        self.root = root
        self.states = dict(states)
        self.asked: dict[str, set[str]] = {UNIT: set(), SERVICE: set()}
        self.answers: dict[str, dict[str, object]] = {}
        self.job = ""
        self.load_state = "loaded"
        time.sleep(TICKS)
        self.read = Reading(time.time(), time.monotonic(), False, "stop")

    def version(self) -> int:
        return 257

    def unit_path(self) -> tuple[Path, ...]:
        return tuple(Path("/", folder) for folder in (ETC, "run/systemd/transient", LIB))

    def default_memory_accounting(self) -> bool:
        return True

    def reading(self) -> Reading:
        return self.read

    def units(self, pattern: str) -> list[UnitRow]:
        rows = [UnitRow(name, self.load_state, *state, self.job) for name, state in self.states.items()]
        return rows if pattern == "*.service" else []

    def load(self, names: Iterable[str]) -> list[UnitRow]:
        return [UnitRow(name, "loaded", *DEAD) for name in names]

    def properties(self, units: Iterable[str], interface: str, names: Iterable[str]) -> dict[str, dict[str, object]]:
        found = {}
        for unit in units:
            self.asked.setdefault(interface, set()).add(unit)
            state = self.states.get(unit, DEAD)
            known = {
                "Names": [unit], "ActiveState": state[0], "SubState": state[1], "DefaultDependencies": True,
                "RefuseManualStart": False, "RefuseManualStop": False, "IgnoreOnIsolate": False,
                "Slice": "system.slice", "ControlGroup": f"/system.slice/{unit}" if state == RUNNING else "",
                "Type": "simple", "RemainAfterExit": False, "KillMode": "control-group", "SendSIGKILL": True,
                "Delegate": False, "DelegateControllers": [], "OOMPolicy": "stop", "StandardInput": "null",
                "TTYPath": "", **self.answers.get(unit, {}),
            }  # fmt: skip
            found[unit] = {name: known[name] for name in names if name in known}
        return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, {f"{ETC}/{name}.service": SIMPLE for name in "abc"})
    put(tmp_path, {f"{LIB}/unused": "", "run/systemd/transient/unused": "", "cgroup/cgroup.controllers": ""})
    (tmp_path / "cgroup/system.slice/a.service").mkdir(parents=True)
    return tmp_path


def systemd(root: Path) -> Systemd:
    return Systemd(root, {"a.service": RUNNING, "b.service": DEAD})


def read(manager: Systemd, settings: Settings = Settings.NONE) -> Host:
    reader = Reader(Store(manager.root), cast(Manager, manager), CgroupFS(manager.root / "cgroup"))
    return reader.read(settings=settings)


def asked(manager: Systemd, settings: Settings = Settings.NONE) -> set[str]:
    read(manager, settings)
    assert manager.asked[UNIT] == manager.asked[SERVICE]
    return manager.asked[UNIT]


def test_nothing_is_asked_of_plain_services_and_the_facts_are_the_same(root: Path) -> None:
    manager = systemd(root)
    without, within = read(manager), read(manager, Settings.ALL)
    assert manager.asked[UNIT] == {"a.service", "b.service", "c.service"}, "all, with all settings alone"
    assert asked(systemd(root)) == set()
    assert without.services["a.service"].control_group == "/system.slice/a.service"
    for unit, facts in within.services.items():
        assert replace(without.services[unit], settings=facts.settings) == facts


def test_a_layered_service_is_not_asked_for_the_slice_that_its_files_say(root: Path) -> None:
    layer = "system-a.service.slice"
    layering = Layering(
        "a.service", "system.slice", layer, Tracking.INSTANCE, "installed", "20260101T000000Z-00000000", "1", True
    )
    FileTransaction(Store(root), Path("/", ETC)).write(layering)
    put(root, {f"{ETC}/b.service": f"{SIMPLE}Slice=b-%N.slice\n"})
    manager = systemd(root)
    found = read(manager).services
    assert manager.asked[UNIT] == set()
    assert [found[f"{name}.service"].slice for name in "abc"] == [layer, "b-b.slice", "system.slice"]


def test_the_managers_own_oom_policy_holds(root: Path) -> None:
    put(root, {f"{ETC}/d.service": f"{SIMPLE}OOMPolicy=continue\n"})
    manager = systemd(root)
    manager.read = replace(manager.read, oom_policy="kill")
    found = read(manager).services
    assert (found["a.service"].oom_policy, found["d.service"].oom_policy) == ("kill", "continue")


def change_a_file(root: Path) -> None:
    (root / ETC / "a.service").write_text(SIMPLE)


def test_who_leaves_a_doubt_is_asked_for_its_settings_too(root: Path) -> None:
    manager = systemd(root)
    manager.answers = {f"{name}.service": {"MemoryMax": 7 << 20} for name in "abc"}
    change_a_file(root)
    found = read(manager, Settings.DOUBTFUL).services
    assert {unit: facts.settings for unit, facts in found.items() if facts.settings} == {
        "a.service": {"MemoryMax": 7 << 20}
    }
    assert manager.asked[SERVICE] == {"a.service"}


def set_its_time_back(root: Path) -> None:
    change_a_file(root)
    os.utime(root / ETC / "a.service", (0, 0))


def add_a_drop_in(root: Path) -> None:
    put(root, {f"{ETC}/a.service.d/x.conf": "[Service]\nNice=1\n"})


def empty_a_folder_of_drop_ins(root: Path) -> None:
    (root / ETC / "b.service.d/x.conf").unlink()


def mask_a_drop_in(root: Path) -> None:
    (root / ETC / "b.service.d/y.conf").symlink_to("/dev/null")


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        (change_a_file, {"a.service"}),
        (set_its_time_back, {"a.service"}),
        (add_a_drop_in, {"a.service", "b.service", "c.service"}),
        (empty_a_folder_of_drop_ins, {"b.service"}),
        (mask_a_drop_in, {"b.service"}),
    ],
)
def test_who_has_changed_since_is_asked(root: Path, change: object, stale: set[str]) -> None:
    put(root, {f"{ETC}/b.service.d/x.conf": "[Service]\nNice=1\n"})
    manager = systemd(root)
    assert asked(manager) == set()
    assert callable(change)
    change(root)
    assert asked(manager) == stale


@pytest.mark.parametrize(
    "reading",
    [
        {"outdated": True},
        {"realtime": 0.0},
        {"realtime": 1.0},
        {"realtime": 4_000_000_000.0},
        {"monotonic": -3600.0},
    ],
)
def test_all_are_asked_where_the_last_reading_tells_nothing(root: Path, reading: dict[str, float]) -> None:
    manager = systemd(root)
    manager.read = replace(manager.read, **reading)  # type: ignore[arg-type]
    assert asked(manager) == {"a.service", "b.service", "c.service"}


@pytest.mark.parametrize(
    ("state", "groups"),
    [
        (("active", "exited"), ()),
        (("activating", "start"), ("system.slice/b.service",)),
        (("inactive", "dead"), ("system.slice/b.service",)),
        (("active", "running"), ()),
        (("active", "running"), ("system.slice/b.service", "old.slice/b.service")),
    ],
)
def test_who_is_on_the_move_is_asked(root: Path, state: tuple[str, str], groups: tuple[str, ...]) -> None:
    for group in groups:
        (root / "cgroup" / group).mkdir(parents=True)
    manager = Systemd(root, {"a.service": RUNNING, "b.service": state})
    assert asked(manager) == {"b.service"}


@pytest.mark.parametrize(("key", "value"), [("job", "start"), ("load_state", "bad-setting")])
def test_who_has_a_job_or_a_bad_file_is_asked(root: Path, key: str, value: str) -> None:
    manager = systemd(root)
    setattr(manager, key, value)
    read(manager)
    assert manager.asked[UNIT] == {"a.service", "b.service"}


@pytest.mark.parametrize(
    ("files", "units"),
    [
        ({"x.service": "-> a.service"}, {"a.service", "x.service"}),
        ({"d.service": "-> /opt/d.service"}, {"d.service"}),
        ({"d@.service": SIMPLE, "d@1.service": SIMPLE}, {"d@1.service"}),
        ({"d.service": f"{SIMPLE}Delegate=yes\n"}, {"d.service"}),
        ({"d.service": f"{SIMPLE}[Unit]\nPartOf=a.service\n"}, {"a.service"}),
        ({"d.service": f"{SIMPLE}[Unit]\nRequires=%H.service\n"}, {"d.service"}),
        ({"d.service.requires/b.service": "-> ../b.service"}, {"b.service"}),
        ({"b.service.d/zz-cgroup-layering.conf": "[Service]\n[X-CgroupLayering]\nUnit=b.service\n"}, {"b.service"}),
    ],
)
def test_whose_files_leave_a_question_is_asked(root: Path, files: dict[str, str], units: set[str]) -> None:
    put(root, {f"{ETC}/{name}": text for name, text in files.items()})
    manager = systemd(root)
    read(manager)
    assert manager.asked[UNIT] == units


def test_who_leans_on_another_by_what_systemd_still_has_is_found(root: Path) -> None:
    manager = systemd(root)
    manager.answers = {"b.service": {"Requires": ["a.service"]}, "a.service": {"RequiredBy": ["b.service"]}}
    (root / ETC / "b.service").write_text(SIMPLE)
    found = read(manager)
    assert manager.asked[UNIT] == {"a.service", "b.service"}
    assert found.propagates == {"a.service": ("b.service",)}


def test_transient_units_are_asked(root: Path) -> None:
    put(root, {"run/systemd/transient/t.service": SIMPLE})
    manager = Systemd(root, {"a.service": RUNNING, "t.service": DEAD})
    assert asked(manager) == {"t.service"}
