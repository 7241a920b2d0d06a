# SPDX-License-Identifier: LGPL-2.1-or-later
"""One JSON document, written while it is found out: long lists are never held in memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from textwrap import indent
from types import TracebackType
from typing import Self

from cgroup_layering.output.tables import SCHEMA, JsonMode


class Document:
    """A JSON object on stdout, with its schema number. Use it as a context manager; keys come in the order given.

    Nothing is printed before there is something to say, so an error at the start leaves no torso.
    """

    def __init__(self, mode: JsonMode) -> None:
        self._pretty = mode is JsonMode.PRETTY
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            sys.stdout.write("\n}\n" if self._pretty else "}\n")

    def add(self, values: Mapping[str, object]) -> None:
        """Write some keys with their values."""
        for key, value in values.items():
            self._key(key)
            sys.stdout.write(self._text(value, 1).lstrip())

    def add_list(self, key: str, items: Iterable[object]) -> None:
        """Write a list, item by item as they come."""
        source = iter(items)
        start = list(islice(source, 1))
        self._key(key)
        sys.stdout.write("[")
        first = True
        for item in chain(start, source):
            sys.stdout.write(("" if first else ",") + ("\n" if self._pretty else "" if first else " "))
            sys.stdout.write(self._text(item, 2))
            first = False
        sys.stdout.write("\n  ]" if self._pretty and not first else "]")

    def _key(self, key: str) -> None:
        if not self._open:
            sys.stdout.write(f'{{\n  "schema": {SCHEMA}' if self._pretty else f'{{"schema": {SCHEMA}')
            self._open = True
        sys.stdout.write(f',\n  "{key}": ' if self._pretty else f', "{key}": ')

    def _text(self, value: object, depth: int) -> str:
        text = json.dumps(value, indent=2 if self._pretty else None, ensure_ascii=True, default=str)
        return indent(text, "  " * depth) if self._pretty else text
