# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writing a plan and taking it back, with a fault at every step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import pytest

from cgroup_layering import render
from cgroup_layering.model import Change, Layering, ServicePlan, Tracking
from cgroup_layering.own import BOOT_TARGET, boot_link, drop_in_path, with_wanted_by
from cgroup_layering.removal import last_migration, remove_files, remove_stray_drop_ins, set_boot_link
from cgroup_layering.rooted import ForeignFile, StoreError, SymlinkInTheWay
from cgroup_layering.store import TEMPORARY, Store
from cgroup_layering.systemd.manager import BusError, BusTimeout, Manager
from cgroup_layering.transaction import FileTransaction, write_plan
from cgroup_layering.unitpaths import ETC, RUN, below
from tests.faults import disk_error, power_cut
from tests.layerings import MIGRATION, facts, layering, service_plan
from tests.planting import plant, snapshot

UNITS = ("a.service", "b@1.service", "c.service")
OLDER = layering("c.service", migration="20250101T000000Z-00000000", folder_created=False)


class Answers:
    """As much of a manager as a transaction asks: it reloads, and shows the slices and settings it was given."""

    def __init__(
        self,
        slices: dict[str, str],
        errors: Iterable[BusError | None] = (),
        settings: dict[str, dict[str, object]] | None = None,
    ) -> None:
        self.slices = slices
        self.settings = settings or {}
        self.errors = list(errors)
        self.reloads = 0

    def reload(self) -> None:
        self.reloads += 1
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error

    def properties(self, units: Iterable[str], interface: str, names: Iterable[str]) -> dict[str, dict[str, object]]:
        wanted = set(names)
        found: dict[str, dict[str, object]] = {}
        for unit in units:
            shown = {**self.settings.get(unit, {}), "Slice": self.slices.get(unit, "")}
            found[unit] = {name: value for name, value in shown.items() if name in wanted}
        return found


def plans() -> list[ServicePlan]:
    """A layer that comes with the boot, one that doesn't, and a change of one that is there."""
    found = [service_plan(layering(UNITS[0], wanted_by=BOOT_TARGET)), service_plan(layering(UNITS[1]))]
    return [*found, service_plan(layering("c.service", folder_created=False), Change.UPDATE)]


def slices(plan: Iterable[ServicePlan]) -> dict[str, str]:
    return {service.unit: service.layering.layer for service in plan if service.layering is not None}


def put(store: Store, folder: Path, said: Layering) -> None:
    store.write(folder / said.layer, render.slice_text(said))
    store.make_folder(folder / f"{said.unit}.d")
    store.write(drop_in_path(folder, said.unit), render.drop_in_text(said))
    if said.wanted_by:
        slice_file = folder / said.layer
        store.make_folder(boot_link(slice_file).parent)
        store.link(boot_link(slice_file), slice_file)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with an older layering of c.service beside an administrator's drop-in."""
    plant(tmp_path, {"etc/systemd/system/c.service.d/10-mine.conf": "[Service]\nNice=5\n"})
    put(Store(tmp_path), ETC, OLDER)
    return tmp_path


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


def test_what_is_written(root: Path, store: Store) -> None:
    _, outcome = write_plan(plans(), store, ETC, None, True)
    assert outcome.ok and outcome.written == list(UNITS)
    own = store.own()
    assert sorted(own) == list(UNITS) and all(files.complete for files in own.values())
    assert own["c.service"].migration == MIGRATION
    # A second run with the same plan changes nothing, whatever the plan calls it.
    before = snapshot(root)
    write_plan(plans(), store, ETC, None, True)
    assert snapshot(root) == before


def test_the_slice_comes_before_its_drop_in(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    write = store.write

    def noted(path: Path, text: str) -> bool:
        order.append(path.suffix)
        return write(path, text)

    monkeypatch.setattr(store, "write", noted)
    write_plan(plans(), store, ETC, None, True)
    assert order == [".slice", ".conf"] * 3


def test_any_error_of_the_disk_undoes_everything(root: Path, store: Store) -> None:
    before = snapshot(root)
    number, failed = 0, True
    while failed:
        number += 1
        with disk_error(number) as faults:
            try:
                write_plan(plans(), store, ETC, None, True)
                failed = False
            except StoreError as error:
                assert "no space left" in str(error)
        # An error that nobody hears of would be worse than one that is undone.
        assert failed is faults.struck
        assert not failed or snapshot(root) == before, f"after an error at call {number}"
    assert number > 30 and snapshot(root) != before


def test_an_error_of_the_reload_undoes_everything(root: Path, store: Store) -> None:
    before = snapshot(root)
    manager = Answers({}, [BusTimeout("Reload", 180)])
    with pytest.raises(BusTimeout):
        write_plan(plans(), store, ETC, cast(Manager, manager), True)
    assert snapshot(root) == before
    assert manager.reloads == 2, "systemd must see the old files again"


def test_the_first_error_is_the_one_that_is_told(store: Store) -> None:
    errors = [BusError("Reload", "x", "first"), BusError("Reload", "x", "second")]
    with pytest.raises(BusError, match="first"):
        write_plan(plans(), store, ETC, cast(Manager, Answers({}, errors)), True)


def test_ctrl_c_undoes_everything(root: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(root)
    manager = Answers(slices(plans()))
    monkeypatch.setattr(manager, "reload", lambda: (_ for _ in ()).throw(KeyboardInterrupt("SIGTERM")))
    with pytest.raises(KeyboardInterrupt):
        write_plan(plans(), store, ETC, cast(Manager, manager), True)
    assert snapshot(root) == before


def test_a_slice_that_systemd_does_not_take(root: Path, store: Store) -> None:
    before = snapshot(root)
    taken = slices(plans()) | {"b@1.service": "system-b.slice", "c.service": ""}
    manager = Answers(taken)
    transaction, outcome = write_plan(plans(), store, ETC, cast(Manager, manager), True)
    assert outcome.written == ["a.service"] and not outcome.ok
    assert outcome.failed["b@1.service"].startswith("b@1.service would still start in system-b.slice, not in ")
    assert "no slice" in outcome.failed["c.service"]
    assert manager.reloads == 2
    # The first one stays, the other two are as they were.
    assert sorted(store.own()) == ["a.service", "c.service"]
    assert store.own()["c.service"].migration == OLDER.migration
    transaction.undo()
    assert snapshot(root) == before


INFINITE = 2**64 - 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"system-a.service.slice": {"MemoryMax": 50 << 20}}, "memory.max is 52428800 instead of max"),
        ({"a.service": {"CPUWeight": 50}}, "cpu.weight is 100 instead of 50"),
        ({"system-a.service.slice": {"IPAddressDeny": [(2, b"", 0)]}}, "IPAddressDeny of the layer is"),
        ({"system-a.service.slice": {"DisableControllers": ["memory"]}}, "DisableControllers of the layer is"),
    ],
)
def test_a_service_that_would_not_be_as_before_is_undone(
    store: Store, root: Path, settings: dict[str, dict[str, object]], words: str
) -> None:
    before = snapshot(root)
    wanted = plans()[:1]
    manager = Answers(slices(wanted), settings=settings)
    _, outcome = write_plan(wanted, store, ETC, cast(Manager, manager), True)
    assert words in outcome.failed["a.service"] and "removed again" in outcome.failed["a.service"]
    assert not outcome.written and manager.reloads == 2 and snapshot(root) == before


def test_in_service_tracking_what_was_before_is_what_counts(store: Store, root: Path) -> None:
    service = service_plan(layering("a.service", tracking=Tracking.SERVICE))
    known = {"a.service": facts(unit="a.service", settings={"MemoryMax": 50 << 20, "TasksMax": 5})}
    after: dict[str, dict[str, object]] = {"a.service": {"MemoryMax": INFINITE, "TasksMax": 5}}
    for layer, good in (({"MemoryMax": 50 << 20}, True), ({"MemoryMax": INFINITE}, False)):
        settings = {**after, "system-a.service.slice": dict[str, object](layer)}
        manager = Answers(slices([service]), settings=settings)
        transaction, outcome = write_plan([service], store, ETC, cast(Manager, manager), True, known)
        assert outcome.ok is good
        transaction.undo()
    assert "memory.max is max instead of 52428800" in outcome.failed["a.service"]


def test_no_reload_when_not_asked(store: Store) -> None:
    manager = Answers({})
    write_plan(plans(), store, ETC, cast(Manager, manager), False)
    assert manager.reloads == 0


def test_a_reload_may_be_owed_though_no_file_changes(store: Store) -> None:
    plan = [service_plan(OLDER, Change.NONE)]
    manager = Answers(slices(plan))
    _, outcome = write_plan(plan, store, ETC, cast(Manager, manager), True)
    assert manager.reloads == 1 and outcome.unchanged == ["c.service"] and not outcome.written


def test_undo_of_some(root: Path, store: Store) -> None:
    transaction = FileTransaction(store, ETC)
    before = snapshot(root)
    for service in plans():
        assert service.layering is not None
        transaction.write(service.layering)
    transaction.undo(["b@1.service", "c.service"])
    assert sorted(store.own()) == ["a.service", "c.service"]
    transaction.undo()
    transaction.undo()
    assert snapshot(root) == before


def test_undo_leaves_a_folder_that_somebody_uses_by_now(root: Path, store: Store) -> None:
    transaction = FileTransaction(store, ETC)
    transaction.write(layering("a.service"))
    theirs = below(root, ETC / "a.service.d/50-theirs.conf")
    theirs.write_text("[Service]\nNice=1\n")
    transaction.undo()
    assert theirs.exists() and sorted(store.own()) == ["c.service"]


def test_a_foreign_file_undoes_what_was_written_before_it(root: Path, store: Store) -> None:
    below(root, ETC / "system-c.service.slice").write_text("[Slice]\nCPUWeight=1\n")
    before = snapshot(root)
    with pytest.raises(ForeignFile):
        write_plan(plans(), store, ETC, None, True)
    assert snapshot(root) == before


def valid(store: Store, folder: Path) -> bool:
    """Whether every drop-in of ours has its slice file: the other way round a service would lose its limits.

    And every link into the boot leads to one that lists it.
    """
    layers = {files.unit for files in store.own().values()}
    listed = {files.layer for files in store.all_own() if files.wanted_by}
    if not listed.issuperset(store.names(folder / f"{BOOT_TARGET}.wants")):
        return False
    return all(path.parent.name.removesuffix(".d") in layers for path in store.stray_drop_ins())


def roll_back(store: Store) -> None:
    for files in store.own().values():
        if files.migration == MIGRATION:
            remove_files(store, files.unit, files.layer)


def test_after_a_power_cut_at_any_step_the_host_is_valid_and_can_be_rolled_back(tmp_path: Path) -> None:
    number = 0
    while True:
        number += 1
        root = plant(tmp_path / str(number))
        store = Store(root)
        before = snapshot(root)
        with power_cut(number) as faults:
            write_plan(plans()[:2], store, ETC, None, True)
        assert valid(store, ETC), f"after a power cut at call {number}"
        roll_back(store)
        # A temporary file in the folder itself belongs to no unit: the next write or removal there sweeps it.
        for path in below(root, ETC).glob(f"{TEMPORARY}*"):
            os.utime(path, (0, 0))
        store.check_writable(ETC)
        assert snapshot(root) == before, f"after a power cut at call {number}"
        shutil.rmtree(root)
        if not faults.struck:
            break
    assert number > 20


def test_after_a_power_cut_while_removing_a_second_run_goes_on(tmp_path: Path) -> None:
    number = 0
    while True:
        number += 1
        root = plant(tmp_path / str(number), {"etc/systemd/system/b@1.service.d/own.conf": "[Unit]\n"})
        store = Store(root)
        before = snapshot(root)
        put(store, ETC, layering("a.service", wanted_by=BOOT_TARGET))
        put(store, ETC, layering("b@1.service", folder_created=False, wanted_by=BOOT_TARGET))
        put(store, RUN, layering("a.service"))
        with power_cut(number) as faults:
            roll_back(store)
        assert valid(store, ETC), f"after a power cut at call {number}"
        roll_back(store)
        assert snapshot(root) == before, f"after a power cut at call {number}"
        if not faults.struck:
            break
    assert number > 8


@pytest.mark.parametrize(("before", "after"), [("", BOOT_TARGET), (BOOT_TARGET, "")])
def test_a_link_into_the_boot_comes_and_goes_with_the_rule(root: Path, store: Store, before: str, after: str) -> None:
    """With the power cut at each step, then done; and undone where systemd can't reload."""
    old, new = (layering("a.service", wanted_by=said) for said in (before, after))
    number, struck = 0, True
    while struck:
        number += 1
        remove_files(store, "a.service", old.layer)
        put(store, ETC, old)
        with power_cut(number) as faults:
            write_plan([service_plan(new, Change.UPDATE)], store, ETC, None, True)
        assert valid(store, ETC), f"after a power cut at call {number}"
        struck = faults.struck
    own = store.own()["a.service"]
    assert (own.wanted_by, own.linked) == (after, bool(after))
    assert number > 8
    remove_files(store, "a.service", old.layer)
    put(store, ETC, old)
    state = snapshot(root)
    with pytest.raises(BusTimeout):
        answers = Answers({}, [BusTimeout("Reload", 1)])
        write_plan([service_plan(new, Change.UPDATE)], store, ETC, cast(Manager, answers), True)
    assert snapshot(root) == state


def test_a_link_follows_the_configuration_as_a_plan_would_write_it(root: Path, store: Store) -> None:
    put(store, ETC, layering("a.service", lifetime=""))
    plain = snapshot(root)
    own = store.own()["a.service"]
    assert set_boot_link(store, own, True) is True
    own = store.own()["a.service"]
    assert own.linked and own.slice_text == render.slice_text(layering("a.service", lifetime="", wanted_by=BOOT_TARGET))
    assert set_boot_link(store, own, True) is False
    assert set_boot_link(store, own, False) is True
    assert snapshot(root) == plain
    assert with_wanted_by(own.slice_text, BOOT_TARGET) == own.slice_text


def test_a_link_of_somebody_else_is_neither_written_over_nor_removed(root: Path, store: Store, tmp_path: Path) -> None:
    said = layering("a.service", wanted_by=BOOT_TARGET)
    link = boot_link(ETC / said.layer)
    below(root, link.parent).mkdir()
    below(root, link).symlink_to("/usr/lib/systemd/system/other.slice")
    before = snapshot(root)
    with pytest.raises(ForeignFile):
        write_plan([service_plan(said)], store, ETC, None, True)
    assert snapshot(root) == before
    put(store, ETC, layering("a.service"))
    remove_files(store, "a.service", said.layer)
    assert snapshot(root) == before
    below(root, link).unlink()
    below(root, link.parent).rmdir()
    below(root, link.parent).symlink_to("/tmp")
    with pytest.raises(SymlinkInTheWay):
        write_plan([service_plan(said)], store, ETC, None, True)
    assert [path.name for path in below(root, ETC).iterdir() if path.name.startswith("system-a")] == []


def test_removal_takes_only_what_is_ours(root: Path, store: Store) -> None:
    put(store, ETC, layering("a.service"))
    below(root, ETC / "a.service.d/other.conf").write_text("[Unit]\n")
    foreign = below(root, drop_in_path(RUN, "a.service"))
    foreign.parent.mkdir()
    foreign.write_text("[Service]\n")
    assert remove_files(store, "a.service", "system-a.service.slice") is True
    assert store.names(ETC / "a.service.d") == ["other.conf"]
    assert foreign.exists()
    assert remove_files(store, "a.service", "system-a.service.slice") is False


def test_a_folder_that_was_there_stays(root: Path, store: Store) -> None:
    below(root, ETC / "a.service.d").mkdir()
    before = snapshot(root)
    put(store, ETC, layering("a.service", folder_created=False))
    remove_files(store, "a.service", "system-a.service.slice")
    assert snapshot(root) == before


def test_stray_drop_ins_go_with_their_folder(store: Store) -> None:
    put(store, ETC, layering("a.service"))
    store.remove(ETC / "system-a.service.slice")
    put(store, ETC, layering("b.service"))
    assert remove_stray_drop_ins(store) == ["a.service"]
    assert "a.service.d" not in store.names(ETC)


def test_last_migration(store: Store) -> None:
    put(store, ETC, layering("a.service"))
    put(store, ETC, layering("b.service", migration=""))
    assert last_migration(store.own().values()) == MIGRATION
    assert last_migration([]) == ""
