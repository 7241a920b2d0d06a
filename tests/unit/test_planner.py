# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a host to a plan: what is asked for, what is there already, and what changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_layering import render
from cgroup_layering.config.model import Config
from cgroup_layering.lifetime.rules import parse_rule
from cgroup_layering.model import Change, Layering, OwnFiles, Tracking, Verdict
from cgroup_layering.own import BOOT_TARGET, drop_in_path, read_back
from cgroup_layering.planner import Request, plan
from cgroup_layering.survey import drift
from cgroup_layering.unitpaths import ETC, RUN
from tests.layerings import facts, host

UNIT = "hello.service"


def planned(service: object, request: Request = Request(), version: int = 252) -> Layering:  # noqa: B008 - frozen
    (found,) = plan(host(service, version=version), request).services  # type: ignore[arg-type]
    assert found.layering is not None
    return found.layering


def own(said: Layering, folder: Path = ETC, complete: bool = True) -> OwnFiles:
    text = render.drop_in_text(said) if complete else None
    found = read_back(folder / said.layer, render.slice_text(said), text, bool(said.wanted_by))
    assert found is not None
    return found


def test_a_new_layer() -> None:
    said = planned(facts("MemoryMax=1G"), Request(migration="m1"))
    assert (said.unit, said.parent, said.layer) == (UNIT, "system.slice", "system-hello.service.slice")
    assert (said.tracking, said.lifetime, said.migration) == (Tracking.INSTANCE, "", "m1")
    assert said.folder_created and not planned(facts(drop_in_folder=True)).folder_created


def test_services_come_in_the_order_of_their_names() -> None:
    found = plan(host(facts(unit="b.service"), facts(unit="a.service"), facts(unit="c.service")), Request())
    assert [service.unit for service in found.services] == ["a.service", "b.service", "c.service"]


@pytest.mark.parametrize("version", [252, 257, 262])
@pytest.mark.parametrize("tracking", Tracking)
def test_a_second_plan_changes_nothing(tracking: Tracking, version: int) -> None:
    text = "MemoryMax=1G\nIOWeight=5\nDefaultDependencies=no"
    request = Request(tracking=tracking, migration="m1", accept_oom_policy_loss=True)
    first = planned(facts(text), request, version)
    assert first.tracking is tracking
    again = facts(text, own=own(first), drop_in_folder=True)
    (found,) = plan(host(again, version=version), Request(migration="m2")).services
    assert found.change is Change.NONE
    # What is there keeps its tracking, its migration and its folder's history.
    assert found.layering == first


def test_a_changed_unit_is_updated_and_keeps_its_migration() -> None:
    first = planned(facts("MemoryMax=1G"), Request(migration="m1"))
    (found,) = plan(host(facts("MemoryMax=2G", own=own(first))), Request(migration="m2")).services
    assert found.change is Change.UPDATE and found.layering is not None
    assert found.layering.migration == "m1"


def test_half_a_layering_is_completed() -> None:
    first = planned(facts())
    (found,) = plan(host(facts(own=own(first, complete=False))), Request()).services
    assert found.change is Change.UPDATE


def test_a_new_version_of_the_tool_alone_changes_nothing() -> None:
    from dataclasses import replace

    first = replace(planned(facts()), version="0.0.1")
    (found,) = plan(host(facts(own=own(first))), Request()).services
    assert found.change is Change.NONE


def test_from_run_to_etc_and_not_back() -> None:
    first = planned(facts())
    for here, there, change in ((RUN, ETC, Change.UPDATE), (ETC, RUN, Change.NONE), (RUN, RUN, Change.NONE)):
        (found,) = plan(host(facts(own=own(first, here))), Request(folder=there)).services
        assert found.change is change


def test_the_tracking_can_be_changed() -> None:
    first = planned(facts())
    (found,) = plan(host(facts(own=own(first))), Request(tracking=Tracking.SERVICE)).services
    assert found.change is Change.NONE and [note.code for note in found.notes] == ["oom-policy"]
    request = Request(tracking=Tracking.SERVICE, accept_oom_policy_loss=True)
    (found,) = plan(host(facts(own=own(first))), request).services
    assert found.change is Change.UPDATE and found.layering is not None
    assert found.layering.tracking is Tracking.SERVICE and found.layering.resets
    # What was accepted once is not asked again.
    (found,) = plan(host(facts(own=own(found.layering))), Request()).services
    assert found.change is Change.NONE and [note.code for note in found.notes] == ["status-memory", "oom-policy"]


def test_limits_stay_off_the_layer_until_they_are_asked_for() -> None:
    first = planned(facts("MemoryMax=1G"), Request(limits=False))
    again = facts("MemoryMax=1G", own=own(first))
    assert not planned(again).lifted and not planned(again).limits
    assert [line.key for line in planned(again, Request(limits=True)).lifted] == ["MemoryMax"]


def test_a_layer_that_was_made_without_limits_stays_so() -> None:
    service = facts("MemoryMax=1G")
    (found,) = plan(host(service), Request(limits=False)).services
    assert found.layering is not None and not found.layering.limits and not found.layering.lifted
    (again,) = plan(host(facts("MemoryMax=1G", own=own(found.layering))), Request()).services
    assert again.change is Change.NONE and [note.code for note in again.notes] == ["no-layer-limits"]


def test_another_parent_than_before_is_refused() -> None:
    first = planned(facts())
    (found,) = plan(host(facts("Slice=a.slice", own=own(first))), Request()).services
    assert found.verdict is Verdict.REFUSED and found.reasons[0].code == "parent-changed"
    assert "update hello.service" in found.reasons[0].sentence


def test_a_tracking_that_cannot_be() -> None:
    service = facts("Delegate=yes")
    (found,) = plan(host(service), Request(tracking=Tracking.SERVICE, named=frozenset((UNIT,)))).services
    assert found.verdict is Verdict.REFUSED and found.reasons[0].code == "tracking"
    # Where the whole host was asked for, one such service is no reason to stop.
    (found,) = plan(host(service), Request(tracking=Tracking.SERVICE)).services
    assert found.verdict is Verdict.LAYERED and found.layering is not None
    assert found.layering.tracking is Tracking.INSTANCE
    assert [note.code for note in found.notes] == ["tracking"]


def test_what_the_slice_takes_from_unit() -> None:
    said = planned(facts("[Unit]\nSurviveFinalKillSignal=yes\nIgnoreOnIsolate=yes"))
    assert said.survive_final_kill and said.ignore_on_isolate
    assert not planned(facts()).survive_final_kill and not planned(facts()).ignore_on_isolate


def test_the_halves_of_a_plan() -> None:
    found = plan(host(facts(), facts(unit="m.service", load_state="masked")), Request())
    assert [s.unit for s in found.layered] == [UNIT] == [s.unit for s in found.changes]
    assert [s.unit for s in found.refused] == ["m.service"]


def test_drop_in_and_slice_are_in_one_folder() -> None:
    files = own(planned(facts()), RUN)
    assert files.drop_in == drop_in_path(RUN, UNIT) and files.slice_file.parent == RUN


def test_a_layer_comes_with_the_boot_where_its_rule_is_forever() -> None:
    """By its own rule or the configuration's; without a configuration what is there is left as it is."""
    forever = Config(default=parse_rule("forever"))
    assert planned(facts(), Request(config=forever)).wanted_by == BOOT_TARGET
    assert planned(facts(), Request(config=Config())).wanted_by == ""
    assert planned(facts(), Request(config=forever, lifetime="boot")).wanted_by == ""
    assert planned(facts(), Request(config=Config(), lifetime="forever")).wanted_by == BOOT_TARGET
    there = own(planned(facts(), Request(config=forever)))
    assert there.linked
    assert planned(facts(own=there)).wanted_by == BOOT_TARGET
    changes = [plan(host(facts(own=there)), Request(config=c)).services[0].change for c in (forever, Config(), None)]
    assert changes == [Change.NONE, Change.UPDATE, Change.NONE]


def test_a_link_that_is_missing_is_drift() -> None:
    forever = Request(config=Config(default=parse_rule("forever")))
    there = own(planned(facts(), forever))
    (found,) = plan(host(facts(own=replace(there, linked=False))), forever).services
    assert found.change is Change.UPDATE
    assert f"{BOOT_TARGET}.wants/{there.layer} is missing" in drift(found, replace(there, linked=False))
    assert drift(plan(host(facts(own=there)), forever).services[0], there) == ""
