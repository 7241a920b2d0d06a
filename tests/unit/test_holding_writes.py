# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holders and their mounts are written and removed with the layer, and any part of that is a valid host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from cgroup_layering import render
from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.holding.domains import Place, keep_holders
from cgroup_layering.holding.leaving import left_behind, stop_holders
from cgroup_layering.holding.model import BpfMapSpec, Hold, Holds, Tmpfs
from cgroup_layering.holding.names import holder_name, owners_around
from cgroup_layering.model import Change, Layering
from cgroup_layering.removal import remove_files
from cgroup_layering.rooted import StoreError
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import BusTimeout, Manager, UnitRow
from cgroup_layering.transaction import FileTransaction, write_plan
from cgroup_layering.trying import script, tried
from cgroup_layering.unitpaths import ETC, RUN
from tests.faults import disk_error, power_cut
from tests.holdings import FULL
from tests.layerings import layering, service_plan
from tests.planting import plant, snapshot

UNIT = "a.service"
HOLDER = holder_name(UNIT)
NONE = layering(UNIT)
OLD = layering(UNIT, hold=FULL)
NEW = layering(UNIT, hold=replace(FULL, tmpfs=(Tmpfs("/run/new", 1 << 20),)))
CHANGES = [(None, OLD), (NONE, OLD), (OLD, NEW), (OLD, NONE)]
IDS = ["first", "added", "changed", "removed"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(plant(tmp_path), alone=True)


def put(store: Store, said: Layering | None) -> None:
    if said is not None:
        write_plan([service_plan(said)], store, ETC, None, True)


def valid(store: Store) -> bool:
    """A service that has to have its holder finds it; a holder and a mount say whose they are by a slice file."""
    drop_in = store.read(ETC / f"{UNIT}.d/zz-cgroup-layering.conf") or ""
    holder = store.read(ETC / HOLDER)
    slice_file = store.read(ETC / OLD.layer)
    return ("Requires=" not in drop_in or holder is not None) and ((holder is None and not drop_in) or bool(slice_file))


@pytest.mark.parametrize(("before", "after"), CHANGES, ids=IDS)
def test_a_power_cut_leaves_a_valid_host_and_a_second_run_goes_on(
    store: Store, before: Layering | None, after: Layering
) -> None:
    put(store, after)
    done = snapshot(store.root)
    number, struck = 0, True
    while struck:
        number += 1
        remove_files(store, UNIT, OLD.layer)
        put(store, before)
        with power_cut(number) as faults:
            put(store, after)
        assert valid(store), f"after a power cut at call {number}"
        struck = faults.struck
        put(store, after)
        store.check_writable(ETC)
        store.sweep(ETC / f"{UNIT}.d")
        assert snapshot(store.root) == done, f"after a power cut at call {number}"
    assert number > 6


@pytest.mark.parametrize(("before", "after"), CHANGES, ids=IDS)
def test_an_error_of_the_disk_undoes_it(store: Store, before: Layering | None, after: Layering) -> None:
    put(store, before)
    was = snapshot(store.root)
    number, failed = 0, True
    while failed:
        number += 1
        failed = False
        with disk_error(number):
            try:
                put(store, after)
            except StoreError:
                failed = True
        if failed:
            assert snapshot(store.root) == was, f"after an error at call {number}"
    assert number > 3


def test_removing_leaves_nothing_wherever_it_is_cut(store: Store) -> None:
    was = snapshot(store.root)
    number, struck = 0, True
    while struck:
        number += 1
        put(store, OLD)
        with power_cut(number) as faults:
            remove_files(store, UNIT, OLD.layer)
        assert valid(store), f"after a power cut at call {number}"
        struck = faults.struck
        remove_files(store, UNIT, OLD.layer)
        assert snapshot(store.root) == was, f"after a power cut at call {number}"


def test_another_ones_unit_is_not_taken(store: Store) -> None:
    (store.root / "etc/systemd/system/run-a.mount").write_text("[Mount]\nWhat=tmpfs\n")
    was = snapshot(store.root)
    with pytest.raises(CgroupLayeringError, match="did not write"):
        put(store, OLD)
    assert snapshot(store.root) == was
    (store.root / "etc/systemd/system/run-a.mount").unlink()
    put(store, OLD)
    (store.root / f"etc/systemd/system/{HOLDER}").write_text("[Service]\nExecStart=/bin/mine\n")
    remove_files(store, UNIT, OLD.layer)
    assert (store.root / f"etc/systemd/system/{HOLDER}").exists(), "it is somebody else's now"


def test_a_confirmed_try_has_its_holder_too(store: Store) -> None:
    write_plan([service_plan(OLD)], store, RUN, None, True)
    own = store.own()[UNIT]
    FileTransaction(store, ETC).copy(own)
    remove_files(store, UNIT, OLD.layer, (RUN,))
    assert store.own()[UNIT].hold == FULL
    assert [path.parent for path, _ in store.own()[UNIT].held] == [ETC, ETC]
    assert not list((store.root / "run/systemd/system").iterdir())


def test_a_try_that_ends_takes_the_holder_away() -> None:
    (one,) = tried([service_plan(OLD)])
    assert [path.name for path in one.files] == ["zz-cgroup-layering.conf", "run-a.mount", HOLDER, OLD.layer]
    text = script("20260801T120000Z-0123abcd", 60, [one])
    lines = text.splitlines()
    removed = [lines.index(f"rm -f -- {path}") for path in one.files[1:]]
    stopped = next(n for n, line in enumerate(lines) if line.startswith("systemctl stop --job-mode") and HOLDER in line)
    assert "rm -f -- /var/lib/cgroup-layering/a.service.resident.json" in lines[stopped:]
    assert removed == sorted(removed) and stopped < lines.index("systemctl daemon-reload")


class Units:
    """As much of a manager as the end of holders asks: what is loaded, and the jobs that are queued."""

    def __init__(self, *holders: str, error: BusTimeout | None = None) -> None:
        self.holders = holders
        self.error = error
        self.calls: list[Any] = []

    def units(self, pattern: str) -> list[UnitRow]:
        return [UnitRow(name, "loaded", "active", "exited") for name in self.holders]

    def enqueue(self, verb: str, units: Any, mode: str) -> dict[str, int]:
        self.calls.append((verb, tuple(units), mode))
        return {unit: number for number, unit in enumerate(units)}

    def jobs(self) -> dict[int, str]:
        return {}

    def reload(self) -> None:
        self.calls.append("reload")
        if self.error is not None and len(self.calls) < 3:
            raise self.error


def test_a_holder_without_a_file_is_stopped_and_no_service_with_it(store: Store) -> None:
    put(store, OLD)
    other = holder_name("gone.service")
    manager = Units(HOLDER, other)
    stop_holders(cast(Manager, manager), store)
    assert manager.calls == [("stop", (other,), "ignore-requirements")]


def test_a_holder_ends_before_systemd_reads_that_it_is_gone(store: Store) -> None:
    put(store, OLD)
    manager = Units(HOLDER)
    with pytest.raises(AttributeError):  # what comes after the reload is not asked here
        write_plan([service_plan(NONE, Change.UPDATE)], store, ETC, cast(Manager, manager), True)
    assert manager.calls[:2] == [("stop", (HOLDER,), "ignore-requirements"), "reload"]


def test_what_stays_in_memory_is_said(tmp_path: Path) -> None:
    root = plant(tmp_path)
    (root / "sys/fs/bpf").mkdir(parents=True)
    (root / "sys/fs/bpf/a").touch()
    hold = Hold(
        UNIT, maps=(BpfMapSpec("/sys/fs/bpf/a", "hash", 4, 8, 16), BpfMapSpec("/sys/fs/bpf/b", "hash", 4, 8, 1))
    )
    assert left_behind(hold, Store(root)) == ["/sys/fs/bpf/a stays pinned until the next boot or until it is removed."]


def test_texts_differ_from_those_of_another_declaration() -> None:
    from cgroup_layering.planfile import print_of

    prints = {print_of(service_plan(one)) for one in (NONE, OLD, NEW)}
    assert len(prints) == 3
    assert render.hold_texts(NONE) == {}


WEB = "system-web.domain.slice"
DOMAIN_HOLD = Hold("web.domain", tmpfs=(Tmpfs("/run/web", 1 << 20),))


def test_a_domains_holder_follows_its_members_and_its_declaration(store: Store) -> None:
    before = snapshot(store.root)
    holder = ETC / holder_name("web.domain")
    holds = Holds({"web.domain": DOMAIN_HOLD, "other.domain": DOMAIN_HOLD})
    one, two = (Place("web", ETC / WEB, names) for names in (("a.service",), ("a.service", "b.service")))
    assert keep_holders(store, [one], holds).changed
    assert not keep_holders(store, [one], holds).changed
    text = store.read(holder) or ""
    assert f"Slice={WEB}\n" in text and "Before=a.service\n" in text and "PartOf" not in text
    assert keep_holders(store, [two], None).changed, "nobody looked at the configuration"
    assert "Before=b.service\n" in (store.read(holder) or "")
    assert not keep_holders(store, [two], Holds({}, {"web.domain": "It is bad."})).changed
    changed = replace(DOMAIN_HOLD, tmpfs=(Tmpfs("/run/new", 1 << 20),))
    assert keep_holders(store, [two], Holds({"web.domain": changed})).changed
    assert store.read(ETC / "run-web.mount") is None and store.read(ETC / "run-new.mount") is not None
    assert keep_holders(store, [two], Holds()).gone == [changed]
    assert snapshot(store.root) == before
    keep_holders(store, [two], holds)
    assert keep_holders(store, [], holds).gone == [DOMAIN_HOLD], "the domain is gone"
    assert snapshot(store.root) == before


def test_who_is_in_a_domain_waits_for_all_around_it() -> None:
    assert owners_around("") == ()
    assert owners_around("shop/web") == ("shop.domain", "shop/web.domain")
