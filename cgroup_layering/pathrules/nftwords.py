# SPDX-License-Identifier: LGPL-2.1-or-later
"""Words of nftables' language, and what stands behind `socket cgroupv2 level N`. Pure.

Source: nft(8); src/scanner.l of nftables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
    r'(?P<comment>#[^\n]*)|(?P<joined>\\\n)|(?P<quoted>"[^"\n]*")|(?P<mark>[!=]=|[{};,=!\n])|(?P<word>[^\s{};,="#!\\]+)'
)
_TEXT_LIMIT = 160


@dataclass(frozen=True, slots=True)
class Token:
    """One word with its line, from 1; `quoted` ones are never keywords."""

    text: str
    line: int
    quoted: bool = False


def tokens_of(text: str) -> Iterator[Token]:
    """The words of a text, comments and line ends among them."""
    line = 1
    at = 0
    for found in _TOKEN.finditer(text):
        line += text.count("\n", at, found.start())
        at = found.start()
        if found.lastgroup == "joined":
            continue
        whole = found[0]
        if found.lastgroup == "quoted":
            yield Token(whole[1:-1], line, True)
        else:
            yield Token(whole, line)


def comparison(tokens: Sequence[Token]) -> tuple[bool, list[Token], int] | None:
    """Whether a match is negated, the values it compares with, and where it ends; None if it compares with nothing."""
    negated = False
    joined = False
    depth = 0
    values: list[Token] = []
    for index, token in enumerate(tokens):
        text = token.text
        if token.quoted or (depth and text not in ("{", "}")):
            values.append(token)
        elif text == "{":
            depth += 1
        elif text == "}":
            depth -= 1
            if depth < 0:
                return None  # `add @meter { socket cgroupv2 level 2 }`: a key, not a comparison
        elif text == "!=":
            negated = True
        elif text == ".":
            joined = True
        elif text[0] in "@$" or (is_value(text) and not (joined and text.isdigit())):
            values.append(token)
        elif text in ("==", "vmap", "map") or joined:
            continue
        else:
            return None
        if values and not depth:
            return negated, values, index + 1
    return None


def is_value(text: str) -> bool:
    """Whether a bare word can be a cgroup: a path, or the number that nft prints for one that has gone."""
    return "/" in text or text.isdigit() or text.endswith((".slice", ".service", ".scope"))


def paths_of(values: Sequence[str]) -> tuple[str, ...]:
    """Values as paths below the root of the hierarchy, numbers left out."""
    return tuple(f"/{value.strip('/')}" for value in values if not value.isdigit())


def stale(values: Sequence[str]) -> str:
    """nft prints the number of a cgroup that is not there any more."""
    numbers = [value for value in values if value.isdigit()]
    return f"it names a cgroup that has gone (number {numbers[0]})" if len(numbers) == len(values) and numbers else ""


def shown(tokens: Sequence[Token]) -> str:
    """Words as one line, not too long."""
    text = " ".join(f'"{token.text}"' if token.quoted else token.text for token in tokens).replace(" ,", ",")
    return text if len(text) <= _TEXT_LIMIT else f"{text[: _TEXT_LIMIT - 3]}..."
