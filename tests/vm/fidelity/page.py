# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write docs/reference/fidelity.md from build/fidelity-SUITE.json of all releases; `make fidelity` runs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jinja2

from tests.vm.fidelity.guest.kit import TRACKINGS
from tests.vm.fidelity.matrix import BUILD, DIFFERENCE, FAILED, PASS
from tests.vm.fidelity.properties import DIFFERENT, NOISE
from tests.vm.machine import TOP

SUITES = ("bookworm", "trixie", "forky")
PAGE = TOP / "docs" / "reference" / "fidelity.md"
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
SIGNS = {PASS: "=", DIFFERENCE: "≠"}


def main() -> int:
    """Exit code 1 if a release is missing, or has a behaviour that is not as promised."""
    documents = []
    for suite in SUITES:
        file = BUILD / f"fidelity-{suite}.json"
        if not file.exists():
            print(
                f"{file.relative_to(TOP)} is missing: run the tests under tests/vm/fidelity on {suite}.",
                file=sys.stderr,
            )
            return 1
        documents.append(json.loads(file.read_text()))
    failed = sorted(
        f"{document['suite']}: {name}, {tracking} tracking"
        for document in documents
        for behaviours in document["behaviours"].values()
        for name, cells in behaviours.items()
        for tracking, cell in cells.items()
        if cell["verdict"] == FAILED
    )
    if failed:
        print("Not as promised, so nothing is written:", *failed, sep="\n  ", file=sys.stderr)
        return 1
    PAGE.write_text(render(documents))
    return 0


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
    names = list(dict.fromkeys(name for document in documents for name in document["behaviours"].get(group, {})))
    rows = []
    for name in names:
        cells = []
        for document in documents:
            for tracking in TRACKINGS:
                cell = document["behaviours"].get(group, {}).get(name, {}).get(tracking)
                cells.append(_sign(cell, notes))
        rows.append({"name": name, "cells": cells})
    return {"title": TITLES[group], "rows": rows, "notes": notes}


def _sign(cell: dict[str, str] | None, notes: list[str]) -> str:
    if cell is None:
        return "not run"
    if not cell["sentence"]:
        return SIGNS[cell["verdict"]]
    if cell["sentence"] not in notes:
        notes.append(cell["sentence"])
    return f"{SIGNS.get(cell['verdict'], '–')} ({notes.index(cell['sentence']) + 1})"


if __name__ == "__main__":
    sys.exit(main())
