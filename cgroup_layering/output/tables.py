# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tables and JSON on stdout, talk on stderr, as systemd's tools do it (see conventions in docs/)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import IO


class JsonMode(StrEnum):
    """The values of --json."""

    SHORT = "short"
    PRETTY = "pretty"
    OFF = "off"


SCHEMA = 1
"""Version of the JSON documents: grows when a key changes its meaning or goes; new keys don't count."""


@dataclass(frozen=True, slots=True)
class Output:
    """How to print: `legend` shows headers and footers, `quiet` leaves only results and errors."""

    json: JsonMode = JsonMode.OFF
    legend: bool = True
    quiet: bool = False

    def document(self, content: dict[str, object]) -> None:
        """Print one JSON document, with its schema number."""
        indent = 2 if self.json is JsonMode.PRETTY else None
        text = json.dumps({"schema": SCHEMA, **content}, indent=indent, ensure_ascii=True, default=str)
        print(text)

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[str]], footer: str = "") -> None:
        """Print aligned columns; columns whose header starts with `>` are numbers and stand to the right."""
        if not sys.stdout.isatty():
            for line in _aligned(headers, [[printable(cell) for cell in row] for row in rows]):
                print(line)
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(
            box=None, show_header=self.legend, pad_edge=False, header_style="underline", collapse_padding=True
        )
        for index, header in enumerate(headers):
            last = index == len(headers) - 1
            table.add_column(
                header.removeprefix(">"),
                justify="right" if header.startswith(">") else "left",
                no_wrap=not last,
                overflow="fold" if last else "ignore",
            )
        count = 0
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
            count += 1
        console = Console(highlight=False, color_system="auto" if coloured() else None, soft_wrap=False)
        with console.capture() as capture:
            console.print(table)
        for line in capture.get().splitlines() if count or self.legend else ():
            print(line.rstrip())
        if self.legend and footer:
            print(f"\n{footer}")

    def say(self, sentence: str) -> None:
        """Tell a person something that is not the result."""
        if not self.quiet:
            print(printable(sentence), file=sys.stderr)

    @staticmethod
    def complain(sentence: str) -> None:
        """Tell a person of a failure, also with -q."""
        print(f"cgroup-layering: {printable(sentence)}", file=sys.stderr)


def _aligned(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines for a pipe: whole ones, however long, without headers. Rich would take a second for a thousand."""
    width: Callable[[str], int] = len
    if not all(cell.isascii() for row in rows for cell in row):
        from rich.cells import cell_len

        width = cell_len
    widths = [max(map(width, column), default=0) for column in zip(*rows, strict=True)]
    right = [header.startswith(">") for header in headers]
    for row in rows:
        cells = zip(row, widths, right, strict=True)
        padded = (
            " " * (space - width(cell)) + cell if is_right else cell + " " * (space - width(cell))
            for cell, space, is_right in cells
        )
        yield " ".join(padded).rstrip()


def printable(text: str) -> str:
    """`text` without control characters and lone surrogates: unit files may hold anything, terminals obey it."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)


def coloured(stream: IO[str] | None = None) -> bool:
    """Whether to colour: $SYSTEMD_COLORS first, then $NO_COLOR, then whether it is a terminal."""
    chosen = os.environ.get("SYSTEMD_COLORS")
    if chosen is not None:
        return chosen.lower() not in ("0", "no", "false", "off", "")
    return "NO_COLOR" not in os.environ and (stream or sys.stdout).isatty()
