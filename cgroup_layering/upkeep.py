# SPDX-License-Identifier: LGPL-2.1-or-later
"""What has happened to layered units since their files were written, and what that asks for. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from cgroup_layering import render
from cgroup_layering.holding.model import Holds
from cgroup_layering.model import Change, Host, OwnFiles, Reason, ServiceFacts, ServicePlan, Verdict
from cgroup_layering.own import drop_in_path
from cgroup_layering.planner import Request, plan
from cgroup_layering.policy import refusal
from cgroup_layering.unitpaths import RUN


class Case(StrEnum):
    """What happened."""

    CURRENT = "current"
    CHANGED = "changed"
    DECLARED = "declared"
    SYSTEMD = "systemd"
    PARENT = "parent"
    RENAMED = "renamed"
    UNREAD = "unread"
    REVERTED = "reverted"
    SLICE_GONE = "slice-gone"
    LEFT = "left"
    MASKED = "masked"
    GONE = "gone"
    UNFIT = "unfit"
    BLOCKED = "blocked"


class Action(StrEnum):
    """What is done about it."""

    NONE = "none"
    WRITE = "write"
    MOVE = "move"
    RELOAD = "reload"
    UNLAYER = "unlayer"
    WAIT = "wait"
    FAIL = "fail"


UNFIT = frozenset(
    (
        "directive",
        "specifier",
        "tracking",
        "transient",
        "connection",
        "user-session",
        "outside-system",
        "concurrency",
        "name-too-long",
    )
)
"""Refusals that say that the service itself can't be layered any more; others name what stands in the way of it."""


_SAID = frozenset(("accounting-off", "status-memory", "oom-policy", "oomd", "no-layer-limits"))


@dataclass(frozen=True, slots=True)
class Subject:
    """One layering and how its service stands now. `facts` is None where the unit is gone from the system."""

    own: OwnFiles
    facts: ServiceFacts | None
    inside: bool = False
    """Whether an instance runs in the layer."""
    exists: bool = False
    """Whether the layer has a cgroup."""
    drop_in_elsewhere: bool = False
    """Whether the service's drop-in leads to another layer, which has its file too."""


@dataclass(frozen=True, slots=True)
class Item:
    """What is to be done about one layering, and why; `plan` where files are to be written."""

    unit: str
    own: OwnFiles
    case: Case
    action: Action
    why: str = ""
    plan: ServicePlan | None = None
    slice_only: bool = False
    """Whether only the slice file goes: the drop-in is another layering's, or is written anew."""

    @property
    def notes(self) -> tuple[Reason, ...]:
        """What an administrator must know of what is written, less what the tracking costs and was said before."""
        notes = self.plan.notes if self.plan else ()
        return tuple(note for note in notes if note.code not in _SAID)

    @property
    def removes(self) -> bool:
        """Whether files go."""
        return self.action in (Action.UNLAYER, Action.MOVE)


def decide(subject: Subject, host: Host, layered: Collection[str], holds: Holds | None = None) -> Item:
    """What became of one layering. `layered` are the units that have a complete one.

    `holds` are the resources that are declared now; None leaves holders as they are.
    """
    own, facts = subject.own, subject.facts
    if subject.drop_in_elsewhere:
        return _leftover(subject)
    if not own.slice_text:
        text = f"The slice file of {own.unit} is gone, so its layer has lost its settings."
        return Item(own.unit, own, Case.SLICE_GONE, Action.UNLAYER, text)
    if facts is None:
        text = f"{own.unit} is gone from the system"
        if subject.exists:
            return Item(own.unit, own, Case.GONE, Action.WAIT, f"{text}; its files go with its layer, see reap.")
        return Item(own.unit, own, Case.GONE, Action.UNLAYER, f"{text}, and so is its layer.")
    if not own.complete:
        return _incomplete(subject, facts)
    if facts.load_state == "masked":
        return Item(own.unit, own, Case.MASKED, Action.NONE, f"{own.unit} is masked; its files wait for an unmask.")
    if facts.unit != own.unit and facts.unit in layered:
        text = f"{own.unit} is an alias of {facts.unit} now, which has a layer of its own."
        return Item(own.unit, own, Case.RENAMED, Action.UNLAYER, text)
    return _planned(own, facts, host, holds)


def _leftover(subject: Subject) -> Item:
    own = subject.own
    if subject.inside:
        return Item(own.unit, own, Case.LEFT, Action.WAIT, f"{own.unit} still runs in {own.layer}.", slice_only=True)
    if subject.exists and own.slice_file.parent != RUN:
        text = f"{own.unit} has left {own.layer}, which goes with the next `cgroup-layering reap`."
        return Item(own.unit, own, Case.LEFT, Action.WAIT, text, slice_only=True)
    text = f"{own.slice_file} is left of an earlier layer of {own.unit}."
    return Item(own.unit, own, Case.LEFT, Action.UNLAYER, text, slice_only=True)


def _incomplete(subject: Subject, facts: ServiceFacts) -> Item:
    """The slice file alone: `systemctl revert` does that, and so does a `disable` that keeps a live layer's limits."""
    own = subject.own
    if facts.obstacle is not None and facts.obstacle.code in ("symlink", "foreign-file"):
        return Item(own.unit, own, Case.BLOCKED, Action.FAIL, facts.obstacle.sentence)
    if own.slice_file.parent == RUN:
        if subject.inside:
            return Item(own.unit, own, Case.LEFT, Action.WAIT, f"{own.unit} leaves its layer at its next start.")
        return Item(own.unit, own, Case.LEFT, Action.UNLAYER, f"The last instance of {own.unit} has left its layer.")
    text = f"The drop-in of {own.unit} is gone, as after `systemctl revert`."
    return Item(own.unit, own, Case.REVERTED, Action.UNLAYER, text)


def _planned(own: OwnFiles, facts: ServiceFacts, host: Host, holds: Holds | None) -> Item:
    moved = facts.unit != own.unit
    refused = refusal(facts, host)
    facts = replace(facts, own=None if moved else own)
    found = _plan(own, facts, host, holds)
    if refused is None and found.verdict is Verdict.REFUSED and found.reasons[0].code == "parent-changed":
        moved = True
        found = _plan(own, replace(facts, own=None), host, holds)
    if found.verdict is Verdict.REFUSED or found.layering is None:
        reason = found.reasons[0]
        if reason.code in UNFIT:
            return Item(own.unit, own, Case.UNFIT, Action.UNLAYER, reason.sentence)
        return Item(own.unit, own, Case.BLOCKED, Action.FAIL, f"{reason.sentence} Its layer is left as it is.")
    if moved:
        same = facts.unit == own.unit
        layering = replace(found.layering, joined_plain=own.joined_plain)
        layering = replace(layering, folder_created=own.folder_created) if same else layering
        found = replace(found, layering=layering)
        if not same:
            text = f"{own.unit} is an alias of {facts.unit} now; the layer goes with the name."
            return Item(facts.unit, own, Case.RENAMED, Action.MOVE, text, found)
        text = f"{own.unit} is in {facts.parent} now; its layer moves there."
        return Item(own.unit, own, Case.PARENT, Action.MOVE, text, found, slice_only=True)
    if found.change is not Change.NONE:
        return _changed(own, facts, host, found, holds)
    if host.online and facts.slice and facts.slice != own.layer:
        text = f"systemd has not read the files of {own.unit} yet."
        return Item(own.unit, own, Case.UNREAD, Action.RELOAD, text, found)
    return Item(own.unit, own, Case.CURRENT, Action.NONE, plan=found)


def _changed(own: OwnFiles, facts: ServiceFacts, host: Host, found: ServicePlan, holds: Holds | None) -> Item:
    if own.systemd not in (0, host.version):
        then = replace(host, version=own.systemd)
        if _plan(own, facts, then, holds).change is Change.NONE:
            text = f"The files of {own.unit} were written for systemd {own.systemd}, and this is {host.version}."
            return Item(own.unit, own, Case.SYSTEMD, Action.WRITE, text, found)
    if _plan(own, facts, host, None).change is Change.NONE:
        text = f"What is declared for {own.unit} in the configuration has changed."
        return Item(own.unit, own, Case.DECLARED, Action.WRITE, text, found)
    text = f"The settings of {own.unit} have changed since its files were written."
    return Item(own.unit, own, Case.CHANGED, Action.WRITE, text, found)


def _plan(own: OwnFiles, facts: ServiceFacts, host: Host, holds: Holds | None) -> ServicePlan:
    """The plan for one service, with all that its layer was given."""
    request = Request(
        tracking=own.tracking,
        limits=own.limits,
        migration=own.migration,
        folder=own.slice_file.parent,
        lifetime=own.lifetime,
        holds=holds,
        ignore_path_rules=True,
    )
    (found,) = plan(replace(host, services={facts.unit: facts}), request).services
    return found


def file_changes(item: Item) -> list[tuple[Path, str, str]]:
    """The files that an item changes: path, text before and after; an empty text is a file that is not there."""
    own, changes = item.own, []
    folder = own.slice_file.parent
    old = {own.slice_file: own.slice_text, own.drop_in: own.drop_in_text or "", **dict(own.held)}
    new: dict[Path, str] = {}
    if item.action in (Action.WRITE, Action.MOVE) and item.plan is not None and item.plan.layering is not None:
        layering = item.plan.layering
        new[folder / layering.layer] = render.slice_text(layering)
        new[drop_in_path(folder, layering.unit)] = render.drop_in_text(layering)
        new |= {folder / name: text for name, text in render.hold_texts(layering).items()}
    elif item.action is not Action.UNLAYER:
        return []
    elif item.slice_only:
        old = {own.slice_file: own.slice_text}
    for path in dict.fromkeys((*new, *old)):
        before, after = old.get(path, ""), new.get(path, "")
        if before != after:
            changes.append((path, before, after))
    return changes
