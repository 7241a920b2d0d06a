# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write docs/reference/fidelity.md from what the fidelity tests left in build/; `make fidelity` runs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jinja2

from tests.vm.fidelity.groups import rows
from tests.vm.fidelity.guest.kit import TRACKINGS
from tests.vm.fidelity.matrix import BUILD, DIFFERENCE, FAILED, PASS
from tests.vm.fidelity.properties import DIFFERENT, NOISE
from tests.vm.machine import TOP

SUITES = ("bookworm", "trixie", "forky")
PAGE = TOP / "docs" / "reference" / "fidelity.md"
KEPT = Path(__file__).with_name("seen")
"""What the last run of each cell gave: the page is made of it, so a release can be run by itself."""
TITLES = {
    "oom": "The OOM killer and OOMPolicy=",
    "memory": "Memory",
    "shares": "Processor, tasks and disk",
    "filters": "Network and devices",
    "kinds": "Kinds of services",
    "delegation": "Delegation and containers",
    "oomd": "systemd-oomd",
    "views": "What is seen differently",
}
SIGNS = {PASS: "=", DIFFERENCE: "≠", FAILED: "✗"}
NOT_RUN = "not run"


def main() -> int:
    """Take over what the last test runs saw, and write the page; exit code 1 if something is not as promised."""
    documents = [_gathered(suite) for suite in SUITES]
    PAGE.write_text(render(documents))
    failed = sorted(
        f"{document['suite']}: {name}, {tracking} tracking"
        for document in documents
        for behaviours in document["behaviours"].values()
        for name, cells in behaviours.items()
        for tracking, cell in cells.items()
        if cell["verdict"] == FAILED
    )
    if failed:
        print("Not as promised:", *failed, sep="\n  ", file=sys.stderr)
    return 1 if failed else 0


def kept(suite: str) -> dict[str, Any]:
    """What is kept of a release; of one that never ran, nothing but its name."""
    file = KEPT / f"{suite}.json"
    return dict(json.loads(file.read_text())) if file.exists() else {"suite": suite, "behaviours": {}}


def _gathered(suite: str) -> dict[str, Any]:
    """What is kept of a release, with newer cells from build/ and without those that no test runs any more."""
    document, file = kept(suite), BUILD / f"fidelity-{suite}.json"
    if not file.exists():
        return document
    newer = json.loads(file.read_text())
    behaviours = {}
    for group in TITLES:
        found = {}
        for name in rows(group):
            cells = [one["behaviours"].get(group, {}).get(name, {}) for one in (document, newer)]
            found[name] = cells[0] | cells[1]
        behaviours[group] = {name: cells for name, cells in found.items() if cells}
    document |= newer | {"behaviours": behaviours}
    (KEPT / f"{suite}.json").write_text(json.dumps(document, indent=1) + "\n")
    return document


def render(documents: list[dict[str, Any]]) -> str:
    """The page."""
    template = Path(__file__).with_name("fidelity.md.j2").read_text()
    environment = jinja2.Environment(  # noqa: S701 - this is Markdown
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(template).render(
        releases=documents,
        groups=[_group(group, documents) for group in TITLES],
        properties=[(name, ", ".join(where), why) for name, (where, why) in sorted(DIFFERENT.items())],
        noise=[(", ".join(f"`{name}`" for name in names), why) for names, why in NOISE],
    )


def _group(group: str, documents: list[dict[str, Any]]) -> dict[str, Any]:
    notes: list[str] = []
    lines = []
    for name in rows(group):
        cells = []
        for document in documents:
            for tracking in TRACKINGS:
                cell = document["behaviours"].get(group, {}).get(name, {}).get(tracking)
                cells.append(_sign(cell, notes))
        lines.append({"name": name, "cells": cells})
    return {"title": TITLES[group], "rows": lines, "notes": notes}


def _sign(cell: dict[str, str] | None, notes: list[str]) -> str:
    if cell is None:
        return NOT_RUN
    if not cell["sentence"]:
        return SIGNS[cell["verdict"]]
    if cell["sentence"] not in notes:
        notes.append(cell["sentence"])
    return f"{SIGNS.get(cell['verdict'], '–')} ({notes.index(cell['sentence']) + 1})"


if __name__ == "__main__":
    sys.exit(main())
