# SPDX-License-Identifier: LGPL-2.1-or-later
"""What has happened to a layered unit, what is done about it, and the diff of that."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cgroup_layering import render
from cgroup_layering.model import Change, OwnFiles, Reason, ServiceFacts, Tracking
from cgroup_layering.output.tables import JsonMode, Output
from cgroup_layering.output.updates import show_diff
from cgroup_layering.own import read_back
from cgroup_layering.planner import Request, plan
from cgroup_layering.unitpaths import ETC, RUN
from cgroup_layering.upkeep import Action, Case, Item, Subject, decide, file_changes
from tests.layerings import facts, host

UNIT = "hello.service"
LAYER = "system-hello.service.slice"
OTHER = "world.service"


def written(
    service: ServiceFacts, version: int = 252, folder: Path = ETC, drop_in: bool = True, **request: Any
) -> OwnFiles:
    """The files that layering a service wrote."""
    (found,) = plan(
        host(service, version=version), Request(folder=folder, migration="m1", accept_oom_policy_loss=True, **request)
    ).services
    assert found.layering is not None
    text = render.drop_in_text(found.layering) if drop_in else None
    own = read_back(folder / found.layering.layer, render.slice_text(found.layering), text)
    assert own is not None
    return own


def now(service: ServiceFacts, **changes: Any) -> ServiceFacts:
    """The service as systemd has it once it has read our files."""
    return replace(service, **{"slice": LAYER, "active_state": "active", "sub_state": "running", **changes})


def found(own: OwnFiles, service: ServiceFacts | None, version: int = 252, **subject: Any) -> Item:
    return decide(
        Subject(own, replace(service, own=own) if service else None, **subject),
        host(*((service,) if service else ()), version=version),
        {own.unit} if own.complete else set(),
    )


LIMITED = facts("MemoryMax=64M")
OWN = written(LIMITED)
HALF = written(LIMITED, drop_in=False)
WAITING = written(LIMITED, folder=RUN, drop_in=False, tracking=Tracking.SERVICE)


@pytest.mark.parametrize(
    ("own", "service", "subject", "case", "action"),
    [
        (OWN, now(LIMITED), {}, Case.CURRENT, Action.NONE),
        (OWN, now(facts("MemoryMax=96M")), {}, Case.CHANGED, Action.WRITE),
        (OWN, now(facts("MemoryMax=64M\nSlice=a.slice")), {}, Case.PARENT, Action.MOVE),
        (OWN, now(LIMITED, slice="system.slice"), {}, Case.UNREAD, Action.RELOAD),
        (OWN, now(LIMITED, load_state="masked"), {}, Case.MASKED, Action.NONE),
        (OWN, now(LIMITED, load_state="bad-setting"), {}, Case.BLOCKED, Action.FAIL),
        (OWN, now(LIMITED, obstacle=Reason("outranked", "zzz.conf.")), {}, Case.BLOCKED, Action.FAIL),
        (OWN, now(facts("CPUSetPartition=root"), transient=True), {}, Case.UNFIT, Action.UNLAYER),
        (OWN, now(facts("Slice=user-1.slice")), {}, Case.UNFIT, Action.UNLAYER),
        (OWN, None, {"exists": False}, Case.GONE, Action.UNLAYER),
        (OWN, None, {"exists": True}, Case.GONE, Action.WAIT),
        (HALF, now(LIMITED), {"inside": True}, Case.REVERTED, Action.UNLAYER),
        (HALF, now(LIMITED, obstacle=Reason("foreign-file", "It is there.")), {}, Case.BLOCKED, Action.FAIL),
        (WAITING, now(LIMITED), {"inside": True}, Case.LEFT, Action.WAIT),
        (WAITING, now(LIMITED), {"inside": False}, Case.LEFT, Action.UNLAYER),
        (replace(WAITING, layer="b.slice"), now(LIMITED), {"drop_in_elsewhere": True}, Case.LEFT, Action.UNLAYER),
        (replace(OWN, slice_text=""), now(LIMITED), {}, Case.SLICE_GONE, Action.UNLAYER),
    ],
)  # fmt: skip
def test_cases(own: OwnFiles, service: ServiceFacts | None, subject: Any, case: Case, action: Action) -> None:
    item = found(own, service, **subject)
    assert (item.case, item.action) == (case, action), item.why
    assert bool(item.why) == (case is not Case.CURRENT)
    assert item.unit == own.unit


def test_files_of_another_release_of_systemd() -> None:
    own = written(LIMITED, 252, tracking=Tracking.SERVICE)
    assert own.systemd == 252
    item = found(own, now(LIMITED), 257)
    assert (item.case, item.action) == (Case.SYSTEMD, Action.WRITE)
    assert "systemd 252" in item.why and "257" in item.why
    assert any("MemoryPressureWatch=yes" in after for _, _, after in file_changes(item))
    # Where both releases want the same lines there is nothing to write, and an edit is told as one.
    assert found(written(LIMITED, 252), now(LIMITED), 257).case is Case.CURRENT
    assert found(own, now(facts("MemoryMax=1G")), 257).case is Case.CHANGED


def test_what_was_given_is_kept() -> None:
    own = written(LIMITED, limits=False, tracking=Tracking.SERVICE, lifetime="forever")
    item = found(own, now(facts("MemoryMax=1G\nCPUWeight=7")))
    assert item.action is Action.WRITE and item.plan is not None and item.plan.layering is not None
    said = item.plan.layering
    assert (said.limits, said.tracking, said.lifetime, said.migration) == (False, Tracking.SERVICE, "forever", "m1")
    assert [line.key for line in said.lifted] == ["CPUWeight"]
    forced = found(own, now(facts("Delegate=memory")))
    assert forced.plan is not None and forced.plan.layering is not None
    assert forced.plan.layering.tracking is Tracking.INSTANCE and "tracking" in [note.code for note in forced.notes]


def test_a_renamed_unit_takes_its_layer_along() -> None:
    other = now(facts("MemoryMax=64M", unit=OTHER), names=(OTHER, UNIT))
    item = found(OWN, other)
    assert (item.case, item.action, item.unit) == (Case.RENAMED, Action.MOVE, OTHER)
    paths = {path: (bool(before), bool(after)) for path, before, after in file_changes(item)}
    assert paths == {
        ETC / "system-world.service.slice": (False, True),
        ETC / f"{OTHER}.d" / "zz-cgroup-layering.conf": (False, True),
        OWN.slice_file: (True, False),
        OWN.drop_in: (True, False),
    }
    item = decide(Subject(OWN, other), host(other), {UNIT, OTHER})
    assert (item.case, item.action) == (Case.RENAMED, Action.UNLAYER)


def test_another_parent_keeps_the_drop_in_and_what_is_known_of_its_folder() -> None:
    item = found(OWN, now(facts("MemoryMax=64M\nSlice=a.slice"), drop_in_folder=True))
    assert item.slice_only and item.plan is not None and item.plan.layering is not None
    assert item.plan.change is Change.ADD and item.plan.layering.folder_created == OWN.folder_created
    changes = {path: (before, after) for path, before, after in file_changes(item)}
    assert set(changes) == {ETC / "a-hello.service.slice", OWN.drop_in, OWN.slice_file}
    before, after = changes[OWN.drop_in]
    assert f"Slice={LAYER}" in before and "Slice=a-hello.service.slice" in after


def test_the_diff(capsys: pytest.CaptureFixture[str]) -> None:
    item = found(OWN, now(facts("MemoryMax=96M")))
    show_diff([item], Output())
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[:2] == [f"--- {OWN.slice_file}", f"+++ {OWN.slice_file}"]
    assert "-MemoryMax=64M" in lines and "+MemoryMax=96M" in lines and "\x1b" not in out
    assert "have changed" in err
    show_diff([item], Output(JsonMode.SHORT))
    (one,) = json.loads(capsys.readouterr().out)["services"]
    assert one["diff"] == out and (one["case"], one["action"]) == ("changed", "write")
    gone = found(HALF, now(LIMITED))
    show_diff([gone], Output())
    assert "+++ /dev/null" in capsys.readouterr().out.splitlines()
    show_diff([found(OWN, now(LIMITED))], Output())
    assert capsys.readouterr() == ("", "Nothing to change.\n")


def test_the_diff_is_coloured_where_that_is_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSTEMD_COLORS", "1")
    show_diff([found(OWN, now(facts("MemoryMax=96M")))], Output())
    assert "\x1b[32m+MemoryMax=96M\x1b[m" in capsys.readouterr().out.splitlines()
