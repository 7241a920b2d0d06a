# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an update would do, as a unified diff, a sentence per layer, and for programs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cgroup_layering.output.tables import Output, coloured, printable
from cgroup_layering.properties import Assignment, Level
from cgroup_layering.transaction import Outcome
from cgroup_layering.upkeep import Action, Item, file_changes

_COLOURS = {"+++": "1", "---": "1", "@@": "36", "+": "32", "-": "31"}
"""The parameters of ECMA-48's SGR for lines that start so; the first that fits."""

_LEVELS = {Level.SERVICE: "the service", Level.LAYER: "its layer", Level.BOTH: "its layer and the service"}


def show_diff(items: Iterable[Item], output: Output) -> None:
    """Print the diff of all files that would change, and say why; a program gets the same as JSON."""
    items = tuple(items)
    if output.json != "off":
        output.document({"services": items_json(items)})
        return
    colour = coloured()
    for item in items:
        for path, before, after in file_changes(item):
            for line in _diff(path, before, after):
                print(_paint(line) if colour else printable(line))
    _say_why(items, output)
    for item in items:
        if item.action in (Action.WAIT, Action.FAIL):
            output.say(item.why)
    if not any(_acts(item) for item in items):
        output.say("Nothing to change.")


def show_updated(items: Sequence[Item], outcome: Outcome, output: Output) -> None:
    """Say what was done, what has to wait, and what could not be done."""
    if output.json != "off":
        output.document(
            {
                "services": items_json(items),
                "written": outcome.written,
                "removed": outcome.removed,
                "pending": outcome.pending,
                "failed": outcome.failed,
                "remarks": outcome.remarks,
            }
        )
    else:
        _say_why(items, output)
        if outcome.written:
            output.say(f"Brought up to date: {', '.join(outcome.written)}.")
        if outcome.removed:
            output.say(f"Taken out of their layers: {', '.join(outcome.removed)}.")
        if not any(_acts(item) for item in items):
            output.say("Nothing to change.")
        for sentence in (*(f"pending: {why}" for why in outcome.pending.values()), *outcome.remarks):
            output.say(sentence)
    for sentence in outcome.failed.values():
        output.complain(sentence)


def show_set(unit: str, layer: str, levels: Mapping[Assignment, Level], outcome: Outcome, output: Output) -> None:
    """Say what was set where."""
    if output.json != "off":
        properties = [{"key": one.key, "value": one.value, "level": level} for one, level in levels.items()]
        document = {"unit": unit, "layer": layer, "properties": properties}
        output.document({**document, "pending": outcome.pending, "failed": outcome.failed, "remarks": outcome.remarks})
    else:
        for one, level in levels.items():
            output.say(f"{one.key}= of {unit} is {one.value or 'reset'}, at {_LEVELS[level]}.")
        for sentence in (*(f"pending: {why}" for why in outcome.pending.values()), *outcome.remarks):
            output.say(sentence)
    for sentence in outcome.failed.values():
        output.complain(sentence)


def _acts(item: Item) -> bool:
    return item.action not in (Action.NONE, Action.WAIT, Action.FAIL)


def _say_why(items: Iterable[Item], output: Output) -> None:
    for item in filter(_acts, items):
        output.say(item.why)
        for note in item.notes if item.action in (Action.WRITE, Action.MOVE) else ():
            output.say(f"note ({note.code}): {note.sentence}")


def items_json(items: Iterable[Item]) -> list[dict[str, object]]:
    """What became of each layer, and what it asks for."""
    return [
        {
            "unit": item.unit,
            "was": item.own.unit,
            "layer": item.own.layer,
            "case": item.case,
            "action": item.action,
            "why": item.why or None,
            "notes": [{"code": note.code, "sentence": note.sentence} for note in item.notes],
            "diff": "".join(
                f"{line}\n" for path, before, after in file_changes(item) for line in _diff(path, before, after)
            ),
        }
        for item in items
    ]


def _diff(path: Path, before: str, after: str) -> Iterator[str]:
    names = (str(path) if before else "/dev/null", str(path) if after else "/dev/null")
    return difflib.unified_diff(before.splitlines(), after.splitlines(), *names, lineterm="")


def _paint(line: str) -> str:
    text = printable(line)
    colour = next((code for start, code in _COLOURS.items() if line.startswith(start)), "")
    return f"\x1b[{colour}m{text}\x1b[m" if colour else text
