# SPDX-License-Identifier: LGPL-2.1-or-later
"""What unit files say: systemd's syntax, read without interpreting values.

Source: src/shared/conf-parser.c (`config_parse`, `parse_line`): a line that ends in an odd number of backslashes
goes on in the next, comment lines inside a continuation are skipped, and there are no trailing comments. A line that
is not valid UTF-8 and a section header without its bracket end the reading of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cgroup_layering.errors import CgroupLayeringError

_BLANK = " \t\n\r"
_COMMENT = ("#", ";")
# What ends a line for read_line() in src/basic/fileio.c: one each of CR and LF in any order, then NUL.
# Any of the three will do. splitlines() would also split at form feeds and U+2028.
_END_OF_LINE = re.compile(r"(?:\r\n|\n\r|[\n\r])\0?|\0")
# What unichar_is_valid() in src/basic/utf8.c refuses: surrogates (read_text() has them for bytes that are not UTF-8)
# and noncharacters.
_INVALID = re.compile(
    "[\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
_BOM = "\ufeff"
_USUAL = 1 << 13
"""Most unit files are smaller (bytes)."""
SIZE_LIMIT = 1 << 20
"""Largest unit file that is read, in bytes; systemd's own limit for one line (LONG_LINE_MAX)."""


class UnitFileError(CgroupLayeringError):
    """A unit file could not be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"Cannot read the unit file {self.path}: {self.reason}."


@dataclass(frozen=True, slots=True)
class Setting:
    """One assignment of a unit file: `key=value`, and where it stands (line 1 is the first)."""

    section: str
    key: str
    value: str
    path: Path
    line: int


@dataclass(frozen=True)
class UnitFiles:
    """All assignments of a unit in the order in which systemd applies them, ours left out."""

    settings: tuple[Setting, ...] = ()
    sources: tuple[Path, ...] = field(default=())

    @cached_property
    def _by_key(self) -> dict[tuple[str, str], list[Setting]]:
        """A plan asks for some hundred keys of each service, most of which are not there."""
        found: dict[tuple[str, str], list[Setting]] = {}
        for setting in self.settings:
            found.setdefault((setting.section, setting.key), []).append(setting)
        return found

    def last(self, section: str, key: str) -> str | None:
        """The value that wins for a key that takes one value; an empty value counts as unset (None)."""
        written = self._by_key.get((section, key))
        return written[-1].value or None if written else None

    def all(self, section: str, key: str) -> tuple[Setting, ...]:
        """The assignments in force for a key that takes a list: an empty one resets those before it."""
        found: list[Setting] = []
        for setting in self._by_key.get((section, key), ()):
            if setting.value:
                found.append(setting)
            else:
                found.clear()
        return tuple(found)

    def keys(self, section: str) -> frozenset[str]:
        """The keys that appear in a section."""
        return frozenset(key for place, key in self._by_key if place == section)

    def has(self, section: str, key: str) -> bool:
        """Whether the key appears at all, were it only to be reset."""
        return (section, key) in self._by_key


def parse(text: str, path: Path) -> tuple[Setting, ...]:
    """The assignments of one file, in order, up to a line that systemd can't read; `X-` sections are kept."""
    settings: list[Setting] = []
    section = ""
    pending = ""
    start = 0
    bom_seen = False
    invalid = _INVALID.search(text) is not None
    for number, line in enumerate(_END_OF_LINE.split(text), 1):
        if line.lstrip(_BLANK).startswith(_COMMENT):
            continue
        if not bom_seen and line.startswith(_BOM):
            line = line.removeprefix(_BOM)
            bom_seen = True
        if not pending:
            start = number
        whole = pending + line
        if whole.endswith("\\") and (len(whole) - len(whole.rstrip("\\"))) % 2:
            pending = whole[:-1] + " "
            continue
        pending = ""
        whole = whole.strip(_BLANK)
        holds = None if invalid and _INVALID.search(whole) else _take(whole, section, path, start, settings)
        if holds is None:
            return tuple(settings)
        section = holds
    if not (invalid and _INVALID.search(pending)):
        _take(pending.strip(_BLANK), section, path, start, settings)
    return tuple(settings)


def _take(line: str, section: str, path: Path, number: int, settings: list[Setting]) -> str | None:
    """Add the assignment on `line`, if it is one; return the section that holds from here on, None at a broken line."""
    if line.startswith("["):
        return line[1:-1] if line.endswith("]") else None
    key, equals, value = line.partition("=")
    if equals and section and key.strip(_BLANK):
        settings.append(Setting(section, key.rstrip(_BLANK), value.lstrip(_BLANK), path, number))
    return section


def read_text(path: Path) -> str:
    """The text of a unit file; bytes that are not UTF-8 are kept. Raises UnitFileError."""
    try:
        # Without a buffer of the limit's size for each of a thousand small files.
        with path.open("rb", buffering=0) as file:
            data = b""
            while len(data) <= SIZE_LIMIT and (more := file.read(_USUAL)):
                data += more
    except OSError as error:
        raise UnitFileError(path, error.strerror or str(error)) from error
    if len(data) > SIZE_LIMIT:
        raise UnitFileError(path, f"it has more than {SIZE_LIMIT} bytes")
    return data.decode(errors="surrogateescape")


def read(paths: Iterable[Path], cache: dict[Path, tuple[Setting, ...]] | None = None) -> UnitFiles:
    """The assignments of several files, in the order given; `cache` saves reading shared ones twice."""
    settings: list[Setting] = []
    paths = tuple(paths)
    for path in paths:
        known = cache.get(path) if cache is not None else None
        if known is None:
            known = parse(read_text(path), path)
            if cache is not None:
                cache[path] = known
        settings.extend(known)
    return UnitFiles(tuple(settings), paths)


def resolve(value: str, specifiers: Mapping[str, str]) -> str | None:
    """`value` with its `%` specifiers replaced, or None where one is not among `specifiers`."""
    out = []
    rest = value
    while rest:
        plain, percent, rest = rest.partition("%")
        out.append(plain)
        if percent:
            if not rest:
                out.append("%")
            elif rest[0] in specifiers:
                out.append(specifiers[rest[0]])
                rest = rest[1:]
            else:
                return None
    return "".join(out)
