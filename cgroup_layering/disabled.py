# SPDX-License-Identifier: LGPL-2.1-or-later
"""Services that `disable` took out while `auto` would layer them again: a configuration file of our own.

The file is ours as long as it says exactly what we would write for the services in it; edited by hand it is the
administrator's, and left alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path

from cgroup_layering.naming import is_service_name
from cgroup_layering.rooted import ForeignFile
from cgroup_layering.store import Store

FILE = Path("/etc/cgroup-layering/50-disabled.toml")

_HEADER = """\
# Written by cgroup-layering: services that `disable` took out, so that `auto` leaves them plain.
# `cgroup-layering enable` takes them out of here. Don't edit this file; exclude others in one of your own.
"""
_FOLDER = "# The folder was made for it.\n"


def text_of(units: Iterable[str], folder_made: bool = False) -> str:
    """The file for these services; names hold no quotes, so they can stand in TOML's literal strings."""
    lines = "".join(f"    '{unit}',\n" for unit in sorted(set(units)))
    return f"{_HEADER}{_FOLDER if folder_made else ''}\n[layering]\nexclude = [\n{lines}]\n"


def units_of(text: str) -> list[str]:
    """The services that a file of ours names; of any other, none."""
    try:
        found = tomllib.loads(text)["layering"]["exclude"]
    except (tomllib.TOMLDecodeError, UnicodeEncodeError, KeyError, TypeError):
        return []
    return [unit for unit in found if isinstance(unit, str) and is_service_name(unit)] if found else []


def is_disabled_file(text: str, _path: Path) -> bool:
    """Whether a text is, byte for byte, what we write."""
    units = units_of(text)
    return bool(units) and text in (text_of(units), text_of(units, folder_made=True))


class Disabled:
    """The file below a store's root."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def known(self) -> frozenset[str]:
        """The services that are recorded. Raises StoreError."""
        text = self._store.read(FILE)
        return frozenset(units_of(text)) if text is not None and is_disabled_file(text, FILE) else frozenset()

    def check(self) -> None:
        """See that services can be recorded, before anything is changed. Raises StoreError, ForeignFile."""
        text = self._store.read(FILE)
        if text is not None and not is_disabled_file(text, FILE):
            raise ForeignFile(FILE)
        # A folder that is missing is made in the one above, in the end.
        place = next(folder for folder in FILE.parents if self._store.has_folder(folder))
        self._store.check_writable(place)

    def add(self, units: Iterable[str]) -> None:
        """Record services. Raises StoreError, ForeignFile."""
        new = set(units)
        if not new:
            return
        text = self._store.read(FILE)
        made = _FOLDER in text if text is not None else False
        if text is None:
            for folder in (FILE.parents[1], FILE.parent):
                made = self._store.make_folder(folder)
        self._store.write(FILE, text_of({*units_of(text or ""), *new}, made), is_disabled_file)

    def take_out(self, units: Iterable[str]) -> list[str]:
        """Forget services; those that were recorded. The file goes with its last one. Raises StoreError."""
        known = self.known()
        found = known.intersection(units)
        if found:
            made = _FOLDER in (self._store.read(FILE) or "")
            if known == found:
                self._store.remove(FILE, is_disabled_file)
                if made:
                    self._store.remove_folder(FILE.parent)
            else:
                self._store.write(FILE, text_of(known - found, made), is_disabled_file)
        return sorted(found)
