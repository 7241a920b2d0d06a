# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the rules say and what was done, for people, for programs and for the journal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from cgroup_layering.lifetime.departure import NAMED, Departure
from cgroup_layering.lifetime.reap import Reaped
from cgroup_layering.lifetime.steps import Step
from cgroup_layering.output.tables import Output
from cgroup_layering.spans import format_size

MESSAGE_REMOVED = "7c3a0f0e5a9c4f1c8d2be1a64c0f3d51"
MESSAGE_KEPT = "b51f7f1c2f7e4b0e9b8f26a4b0b6c9e2"


def show_steps(steps: Sequence[Step], output: Output) -> None:
    """The table of a dry run."""
    rows = (
        (
            step.state.layer, str(step.rule), format_size(step.state.standing.charged_bytes), str(step.state.dying),
            step.decision.verdict, step.decision.why + _more(step),
        )
        for step in steps
    )  # fmt: skip
    output.table(("LAYER", "LIFETIME", ">CHARGED", ">DYING", "VERDICT", "WHY"), rows, f"{len(steps)} layers.")


def _more(step: Step) -> str:
    words = [", its files too"] if step.files_go else []
    if step.boot is not None:
        words.append(", to be linked into the boot" if step.boot else ", its link into the boot goes")
    return "".join(words)


def steps_json(steps: Iterable[Step]) -> list[dict[str, object]]:
    """What the rules say."""
    return [
        {
            "layer": step.state.layer,
            "unit": step.state.unit,
            "lifetime": str(step.rule),
            "charged_bytes": step.state.standing.charged_bytes,
            "dying": step.state.dying,
            "verdict": step.decision.verdict,
            "why": step.decision.why,
            "files_go": step.files_go,
            "shrink": step.shrink,
            "boot": step.boot,
        }
        for step in steps
    ]


def departure_json(one: Departure) -> dict[str, object]:
    """What became of one layer."""
    return {
        "layer": one.layer,
        "unit": one.unit,
        "why": one.why,
        "gone": one.gone,
        "kept": one.kept or None,
        "forced": one.forced,
        "drained": asdict(one.drained) if one.drained else None,
        "residue_bytes": one.residue_bytes,
        "residue": [{"kind": r.thing, "name": r.name, "bytes": r.size_bytes} for r in one.residue],
        "parent": one.parent,
    }


def reaped_json(reaped: Reaped) -> dict[str, object]:
    """What a run did."""
    return {
        "layers": [departure_json(one) for one in reaped.departures],
        "started": reaped.started,
        "links": reaped.links,
        "files_removed": reaped.files_removed,
        "layered": reaped.layered,
        "shrunk": {layer: {"before": before, "after": after} for layer, (before, after) in reaped.shrunk.items()},
        "remarks": reaped.remarks,
        "problems": reaped.problems,
    }


def show_reaped(reaped: Reaped, output: Output) -> None:
    """Say what a run did."""
    for one in reaped.departures:
        output.say(sentence(one))
    for layer in reaped.started:
        output.say(f"Started {layer}.")
    for layer, there in reaped.links.items():
        output.say(f"{layer} {'comes with the boot now' if there else 'does not come with the boot any more'}.")
    if reaped.files_removed:
        output.say(f"Removed the files of {', '.join(reaped.files_removed)}.")
    if reaped.layered:
        output.say(f"Layered {', '.join(reaped.layered)}; a running instance gets into its layer at its next start.")
    for layer, (before, after) in reaped.shrunk.items():
        output.say(f"{layer} had {before} dying cgroups, and has {after}.")
    for remark in reaped.remarks:
        output.say(remark)
    for problem in reaped.problems:
        output.complain(problem)
    if reaped == Reaped():
        output.say("Nothing to reap.")


def sentence(one: Departure) -> str:
    """What became of one layer."""
    if not one.gone:
        return one.kept
    left = f"{format_size(one.residue_bytes)} went to {one.parent}" if one.residue_bytes else "nothing was left in it"
    drained = f", {format_size(one.drained.reclaimed_bytes)} reclaimed" if one.drained else ""
    return f"Removed {one.layer} ({one.why}){drained}; {left}."


def log_departure(one: Departure) -> None:
    """Tell the journal what was handed to a parent, or what stays and why, with fields for programs."""
    from systemd import journal

    names = "\n".join(f"{r.thing} {r.size_bytes} {r.name}" for r in one.residue[:NAMED])
    journal.send(
        sentence(one),
        MESSAGE_ID=MESSAGE_REMOVED if one.gone else MESSAGE_KEPT,
        PRIORITY=str(journal.LOG_NOTICE if one.residue_bytes or not one.gone else journal.LOG_INFO),
        SYSLOG_IDENTIFIER="cgroup-layering",
        CGROUP_LAYERING_UNIT=one.unit,
        CGROUP_LAYERING_LAYER=one.layer,
        CGROUP_LAYERING_PARENT=one.parent,
        CGROUP_LAYERING_RECLAIMED_BYTES=str(one.drained.reclaimed_bytes if one.drained else 0),
        CGROUP_LAYERING_RESIDUE_BYTES=str(one.residue_bytes),
        CGROUP_LAYERING_RESIDUE=names,
    )
