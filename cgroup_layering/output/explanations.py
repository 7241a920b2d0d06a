# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `explain` prints about a code."""

from __future__ import annotations

import re
import shutil
import textwrap

from cgroup_layering.codes.code import Code

_WIDEST = 100
_EMPHASIS = re.compile(r"\*([^*\s]|[^*\s][^*]*[^*\s])\*")


def page(code: Code) -> str:
    """The text about one code: what it means, why it matters, what to do, sources."""
    kind = f"{code.kind}, {code.level}" if code.level else str(code.kind)
    width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)
    parts = [f"{code.name} ({kind})", ""]
    first = f"{code.summary} {code.means}".strip()
    texts = {"What it means": first, "Why it matters": code.matters, "What to do": code.remedy}
    for title, text in texts.items():
        if text:
            parts += [f"{title}:", _wrap(text, width), ""]
    parts += ["Sources:", *(f"    {source}" for source in code.sources or ("cgroup-layering-plan(8)",))]
    return "\n".join(parts)


def plain(text: str) -> str:
    """A text without the manual's marks for emphasis."""
    return _EMPHASIS.sub(r"\1", text)


def _wrap(text: str, width: int) -> str:
    return textwrap.fill(
        plain(text),
        width,
        initial_indent="    ",
        subsequent_indent="    ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def as_json(code: Code) -> dict[str, object]:
    """One code in a JSON document."""
    return {
        "code": code.name,
        "kind": code.kind,
        "level": code.level,
        "summary": plain(code.summary),
        "means": plain(code.means),
        "matters": plain(code.matters),
        "remedy": plain(code.remedy),
        "sources": list(code.sources),
    }
