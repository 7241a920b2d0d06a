# SPDX-License-Identifier: LGPL-2.1-or-later
"""cgroup-layering-codes(7), made from the codes: `python3 -m tests.codespage` writes it."""

from __future__ import annotations

import textwrap
from pathlib import Path

from cgroup_layering.codes.code import Code, Kind
from cgroup_layering.codes.every import all_codes

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cgroup-layering-codes.7.md"
_HEAD = """\
cgroup-layering-codes 7 "November 2026" cgroup-layering "Conventions"
=====================================================================

## NAME

cgroup-layering-codes - codes of refusals, deferrals, notes and findings

## DESCRIPTION

Each decision of **cgroup-layering**(8) that is not the plain one, and each thing that **cgroup-layering doctor** finds,
has a code and a sentence that names the unit and the reason. Sentences can change; codes are stable: one never gets
another meaning. **cgroup-layering explain** *CODE* says more: why it matters, and the sources.
"""
_SECTIONS = {
    Kind.REFUSAL: (
        "REFUSALS",
        "A refused service stays as it is. **plan** shows it with **-**; **enable** ends with exit code 1 and writes "
        "nothing.",
    ),
    Kind.EITHER: (
        "REFUSALS OR NOTES",
        "A refusal if the service was named with the option in question; a note if it was not named, "
        "and it gets what it can have.",
    ),
    Kind.DEFERRAL: (
        "DEFERRALS",
        "A deferred service gets its files now and is never restarted live: it moves at its next start or at the next "
        "boot, as WHEN in the plan says.",
    ),
    Kind.NOTE: ("NOTES", "A note says what changes for a service beside who pays for its memory."),
    Kind.HOST: ("FINDINGS ABOUT THE HOST", "Printed by **doctor**, unless units are named. Each has a level."),
    Kind.DRIFT: (
        "FINDINGS ABOUT DRIFT",
        "Printed by **doctor**: layers that don't match their services, their files or systemd any more.",
    ),
    Kind.RISK: ("FINDINGS ABOUT RISKS", "Printed by **doctor**: what works now and can go wrong."),
}
_TAIL = """
## SEE ALSO

**cgroup-layering**(8), **cgroup-layering-plan**(8), **cgroup-layering-doctor**(8), **cgroup-layering-explain**(8),
**cgroup-layering-json**(7)
"""


def text() -> str:
    """The whole page."""
    parts = [_HEAD]
    for kind, (title, words) in _SECTIONS.items():
        parts.append(f"\n## {title}\n\n{_fill(words)}\n")
        parts += [_entry(code) for code in all_codes().values() if code.kind is kind]
    return "".join(parts) + _TAIL


def _entry(code: Code) -> str:
    level = f"({code.level}) " if code.level else ""
    body = " ".join(part for part in (code.summary, code.means, code.remedy) if part)
    return f"\n**{code.name}**\n{_fill(f': {level}{body}')}\n"


def _fill(paragraph: str) -> str:
    return textwrap.fill(paragraph, 120, break_on_hyphens=False, break_long_words=False)


if __name__ == "__main__":
    PAGE.write_text(text())
