# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plans and outcomes for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from cgroup_layering.model import Change, Plan, ServicePlan, Timing, Verdict
from cgroup_layering.output.tables import Output
from cgroup_layering.transaction import Outcome

_MARKS = {Change.ADD: "+", Change.UPDATE: "~", Change.NONE: "="}


def show_plan(plan: Plan, output: Output) -> None:
    """Print a plan: + new layers, ~ updated ones, = as they are, - refused."""
    if output.json != "off":
        notes = [{"code": note.code, "sentence": note.sentence} for note in plan.notes]
        services = [as_json(service) for service in plan.services]
        output.document({"migration": plan.migration, "services": services, "notes": notes})
        return
    ordered = [*plan.layered, *plan.refused]
    output.table(("", "UNIT", "TRACKING", "WHEN", "CODE", "WHY"), (_row(s) for s in ordered), _footer(plan))
    show_notes(plan, output)


def tell_refused(plan: Plan, named: Collection[str], output: Output) -> bool:
    """Whether something that was asked for can't be; what stands against it is told. Nothing is to be written then.

    An alias that was named, or a glob of which no match can be layered, must not pass for done.
    """
    refused = [service for service in plan.refused if service.unit in named or not plan.layered]
    for service in refused:
        output.complain(service.reasons[0].sentence)
    return bool(refused)


def show_notes(plan: Plan, output: Output) -> None:
    """Tell what an administrator must know before it happens."""
    for note in (*plan.notes, *(note for service in plan.layered for note in service.notes)):
        output.say(f"note ({note.code}): {note.sentence}")


def _row(service: ServicePlan) -> tuple[str, ...]:
    if service.layering is None:
        reason = service.reasons[0]
        return "-", service.unit, "", "", reason.code, reason.sentence
    # The first reason is enough to read; the codes name the others.
    why = service.reasons[0].sentence if service.reasons else ""
    codes = ",".join(reason.code for reason in service.reasons)
    return _MARKS[service.change], service.unit, service.layering.tracking, service.timing, codes, why


def _footer(plan: Plan) -> str:
    counts = Counter(service.change for service in plan.layered)
    refused = Counter(service.reasons[0].code for service in plan.refused)
    codes = ", ".join(f"{count} {code}" for code, count in refused.most_common())
    return (
        f"{counts[Change.ADD]} to add, {counts[Change.UPDATE]} to update, {counts[Change.NONE]} as they are, "
        f"{len(plan.refused)} refused" + (f" ({codes})." if codes else ".")
    )


def as_json(service: ServicePlan) -> dict[str, object]:
    """A service's plan with snake_case keys."""
    layering = service.layering
    return {
        "unit": service.unit,
        "verdict": service.verdict,
        "change": service.change if service.verdict is not Verdict.REFUSED else None,
        "when": service.timing if layering else None,
        "layer": layering.layer if layering else None,
        "tracking": layering.tracking if layering else None,
        "lifted": [{"key": x.key, "value": x.value, "source": x.source} for x in layering.lifted] if layering else [],
        "resets": [{"key": key, "value": value} for key, value in layering.resets] if layering else [],
        "reasons": [{"code": r.code, "sentence": r.sentence} for r in service.reasons],
        "notes": [{"code": r.code, "sentence": r.sentence} for r in service.notes],
    }


def show_outcome(outcome: Outcome, output: Output, done: str, **more: object) -> None:
    """Print what a command did; `done` is the word for written files, such as "Layered"."""
    if output.json != "off":
        output.document(
            {
                **more,
                "written": outcome.written,
                "removed": outcome.removed,
                "unchanged": outcome.unchanged,
                "moved": outcome.moved,
                "pending": outcome.pending,
                "failed": outcome.failed,
                "remarks": outcome.remarks,
            }
        )
    else:
        changed = outcome.written or outcome.removed
        if not changed and not outcome.moved and not outcome.failed:
            output.say("Nothing to change.")
        if changed:
            output.say(f"{done} {_count(changed)}.")
        if outcome.moved:
            output.say(f"Restarted {_count(outcome.moved)}: {', '.join(outcome.moved)}.")
        for sentence in outcome.pending.values():
            output.say(f"pending: {sentence}")
        for sentence in outcome.remarks:
            output.say(sentence)
    for sentence in outcome.failed.values():
        output.complain(sentence)
    if outcome.failed and (outcome.written or outcome.removed or outcome.moved):
        good = len(outcome.written or outcome.removed or outcome.moved)
        output.complain(f"{good} done, {len(outcome.failed)} failed.")


def _count(units: list[str]) -> str:
    return "1 service" if len(units) == 1 else f"{len(units)} services"


def summary(plan: Plan) -> str:
    """One sentence for a prompt."""
    restarts = sum(service.timing is Timing.RESTART for service in plan.layered)
    return f"{len(plan.changes)} services get or change their files, {restarts} can move by a restart."
