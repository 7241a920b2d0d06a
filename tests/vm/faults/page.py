# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write docs/reference/faults.md from the runs that were noted in seen/; `make faults` runs it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from tests.vm.faults.kinds import OUTSIDE, TITLES
from tests.vm.faults.runs import records
from tests.vm.machine import TOP

RELEASES = {"bookworm": "Debian 12", "trixie": "Debian 13", "forky": "forky"}
PAGE = TOP / "docs" / "reference" / "faults.md"
DONE, REFUSED, CUT, INTERRUPTED, BACK = "done", "refused", "cut off", "interrupted", "taken back"


def main() -> int:
    """Exit code 1 if a run ended badly, or if a fault was run nowhere."""
    runs = {suite: records(suite) for suite in RELEASES}
    bad = [f"{suite}: {run}" for suite, some in runs.items() for run in some if run["problems"]]
    ran = {run["fault"] for some in runs.values() for run in some}
    missing = [f"{key} was run nowhere" for key in TITLES if key not in ran]
    if bad or missing:
        print("Nothing is written:", *bad, *missing, sep="\n  ", file=sys.stderr)
        return 1
    PAGE.write_text(render(runs))
    return 0


def did(run: Mapping[str, Any]) -> str:
    """What became of the program in a run."""
    if run["fault"] in OUTSIDE:
        how = OUTSIDE[run["fault"]]
        # With everything moved there was nothing to interrupt any more.
        return BACK if how.trial else CUT if how.power else DONE if run["found"]["moved"] == 2 else INTERRUPTED
    code = run["exit"]
    return DONE if code == 0 else CUT if code < 0 else INTERRUPTED if code > 128 else REFUSED


def render(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The page. A round in which no fault struck any more is none, and so is one whose fault did not take."""

    def counts(run: Mapping[str, Any]) -> bool:
        name = run.get("name", "-")
        return bool(name) and not name.endswith("(missed)")

    struck = {suite: [run for run in some if counts(run)] for suite, some in runs.items()}
    template = Path(__file__).with_name("faults.md.j2").read_text()
    environment = jinja2.Environment(  # noqa: S701 - this is Markdown
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(template).render(
        releases=[_release(suite, some) for suite, some in struck.items()],
        rows=[_row(key, struck) for key in TITLES],
    )


def _release(suite: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    days = sorted(run["at"][:10] for run in runs)
    return {
        "title": RELEASES[suite],
        "runs": len(runs),
        "bad": sum(bool(run["problems"]) for run in runs),
        "systemd": runs[0]["systemd"] if runs else "",
        "first": days[0] if runs else "",
        "last": days[-1] if runs else "",
    }


def _row(key: str, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    cells = []
    ends: Counter[str] = Counter()
    for some in runs.values():
        mine = [run for run in some if run["fault"] == key]
        bad = sum(bool(run["problems"]) for run in mine)
        cells.append(f"{len(mine)} run{'s' * (len(mine) != 1)}, {bad} bad" if mine else "")
        ends.update(did(run) for run in mine)
    return {"title": TITLES[key], "cells": cells, "did": ", ".join(f"{end} {n}" for end, n in sorted(ends.items()))}


if __name__ == "__main__":
    sys.exit(main())
