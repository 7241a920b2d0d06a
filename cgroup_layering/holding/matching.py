# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which files a glob means: no symbolic link is followed, and there is an end to it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

MOST_FILES = 10_000
MOST_ENTRIES = 200_000


class TooMany(ValueError):
    """A glob that matches too much; the sentence says how much."""


def matches(globs: tuple[str, ...], root: Path = Path("/")) -> list[str]:
    """The regular files that match, sorted, as paths below `root`. Raises TooMany.

    A part of a glob matches as in a shell: `*` matches no slash, and a leading dot has to be written; `**` is any
    number of folders. Folders that can't be read have no files.
    """
    found: set[str] = set()
    for glob in globs:
        budget = [MOST_ENTRIES]
        for path in _walk(root, "", glob.strip("/").split("/"), budget, glob):
            found.add(path)
            if len(found) > MOST_FILES:
                raise TooMany(f"{glob!r} matches more than {MOST_FILES} files")
    return sorted(found)


def _walk(root: Path, base: str, parts: list[str], budget: list[int], glob: str) -> Iterator[str]:
    part, rest = parts[0], parts[1:]
    if not any(char in part for char in "*?["):
        yield from _step(root, f"{base}/{part}", rest, budget, glob)
        return
    if part == "**" and rest:
        yield from _walk(root, base, rest, budget, glob)
    try:
        with os.scandir(f"{root}/{base}".replace("//", "/")) as entries:
            names = []
            for entry in entries:
                budget[0] -= 1
                if budget[0] < 0:
                    raise TooMany(f"{glob!r} makes for a look at more than {MOST_ENTRIES} names")
                if not entry.name.startswith(".") or part.startswith("."):
                    names.append(entry.name)
    except OSError:
        return
    for name in names:
        if part == "**":
            yield from _step(root, f"{base}/{name}", parts if rest else [], budget, glob, folders=bool(rest))
        elif fnmatchcase(name, part):
            yield from _step(root, f"{base}/{name}", rest, budget, glob)


def _step(root: Path, path: str, rest: list[str], budget: list[int], glob: str, folders: bool = False) -> Iterator[str]:
    try:
        mode = os.lstat(f"{root}/{path}".replace("//", "/")).st_mode
    except OSError:
        return
    if rest and stat.S_ISDIR(mode):
        yield from _walk(root, path, rest, budget, glob)
    elif not rest and not folders and stat.S_ISREG(mode):
        yield path
