# SPDX-License-Identifier: LGPL-2.1-or-later
"""The line of a key in a `[hold."UNIT"]` table, which tomllib does not tell. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEADER = re.compile(r"\s*\[\[?(?P<name>.+?)\]\]?\s*(?:#.*)?")


def line_of(lines: Sequence[str], owner: str, keys: Sequence[str | int]) -> int:
    """The number of the line where `keys` of a declaration stand, or as near to it as can be told; 0 for unknown."""
    kinds = [str(key) for key in keys if isinstance(key, str)]
    index = next((key for key in keys if isinstance(key, int)), None)
    best = 0
    seen = -1
    inside = False
    for number, line in enumerate(lines, 1):
        header = _HEADER.fullmatch(line)
        if header is not None:
            names = _parts(header["name"])
            inside = names[:2] == ["hold", owner]
            if inside and index is not None and names[2:3] == kinds[:1]:
                seen += 1
                inside = seen == index
                best = number if inside else best
            elif inside:
                inside = index is None or seen < 0
                best = best or number
        elif inside:
            wanted = kinds[-1:] if index is None or seen == index else kinds[:1]
            if wanted and re.match(rf"""\s*["']?{re.escape(wanted[0])}["']?\s*=""", line):
                return number
    return best


def _parts(name: str) -> list[str]:
    return [bare or quoted for quoted, bare in re.findall(r"""["']([^"']*)["']|([\w-]+)""", name)]
