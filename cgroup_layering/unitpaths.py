# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where systemd looks for a unit's files: fragment and pooled drop-ins, on a live host or below a root.

Sources: systemd.unit(5) "Unit File Load Path"; src/shared/dropin.c (`unit_file_find_dropin_paths`: all folders of
all names are pooled, an earlier folder wins a file name, and the files apply in the order of their names);
src/libsystemd/sd-path/path-lookup.c for the order of folders.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from cgroup_layering.naming import SERVICE_SUFFIX, instance_of, prefix_of, template_of

ETC = Path("/etc/systemd/system")
RUN = Path("/run/systemd/system")
ETC_CONTROL = Path("/etc/systemd/system.control")
RUN_CONTROL = Path("/run/systemd/system.control")
_CONTROL_HEADER = '# This is a drop-in unit file extension, created via "systemctl set-property"'
"""The first line of what systemd writes there (src/core/unit.c, `unit_write_setting`)."""

LOOKUP = tuple(
    Path(path)
    for path in (
        "/etc/systemd/system.control",
        "/run/systemd/system.control",
        "/run/systemd/transient",
        "/run/systemd/generator.early",
        "/etc/systemd/system",
        "/etc/systemd/system.attached",
        "/run/systemd/system",
        "/run/systemd/system.attached",
        "/run/systemd/generator",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
        "/run/systemd/generator.late",
    )
)
"""The system manager's load path, first wins, for a host whose manager cannot be asked (`UnitPath`)."""

MASK = Path("/dev/null")


def below(root: Path, path: Path) -> Path:
    """`path` as seen below `root`."""
    return root / path.relative_to("/")


def lookup_dirs(root: Path, paths: Iterable[Path] = LOOKUP) -> tuple[Path, ...]:
    """The existing folders of the load path below `root`, duplicates through symlinks (/lib) left out."""
    seen: set[tuple[int, int]] = set()
    found = []
    for path in paths:
        folder = below(root, path)
        try:
            facts = folder.stat()
        except OSError:
            continue
        if stat.S_ISDIR(facts.st_mode) and (facts.st_dev, facts.st_ino) not in seen:
            seen.add((facts.st_dev, facts.st_ino))
            found.append(folder)
    return tuple(found)


def is_control(text: str, path: Path) -> bool:
    """Whether a file is one that `systemctl set-property` wrote, or would have."""
    return path.parent.parent in (ETC_CONTROL, RUN_CONTROL) and text.startswith(_CONTROL_HEADER)


def _folder_names(unit: str) -> Iterator[str]:
    """The `.d` folder names of one unit name, most specific first: itself, template, dash prefixes."""
    yield unit + ".d"
    template = template_of(unit)
    if template is not None:
        yield from _folder_names(template)
    prefix = prefix_of(unit)
    instance = instance_of(unit)
    # A trailing dash is chopped once, so that `foo-bar-.service` leads to `foo-.service`.
    head, dash, _ = prefix.removesuffix("-").rpartition("-")
    if dash and head:
        # systemd's way: above `a-b@i` is `a-@i`, but above the template `a-b@` is the plain `a-`.
        at = "@" + instance if instance is not None else ""
        yield from _folder_names(f"{head}-{at}{SERVICE_SUFFIX}")


class Listings:
    """The names in folders, each folder read once: a host has thousands of units in a dozen folders."""

    def __init__(self) -> None:
        self._known: dict[Path, frozenset[str]] = {}
        self._links: dict[Path, frozenset[str]] = {}
        self._folders: tuple[Path, ...] = ()
        self._holders: dict[str, list[Path]] = {}
        self._drop_ins: frozenset[str] = frozenset()

    def names(self, folder: Path) -> frozenset[str]:
        """The names in a folder as they were when it was first asked for; none where there is no such folder."""
        known = self._known.get(folder)
        if known is None:
            known = self._read(folder)
        return known

    def links(self, folder: Path) -> frozenset[str]:
        """Those of the names that are symbolic links."""
        self.names(folder)
        return self._links[folder]

    def holders(self, folders: tuple[Path, ...], name: str) -> Iterable[Path]:
        """Those of the folders that have something of that name."""
        self._look(folders)
        return self._holders.get(name, ())

    def drop_in_names(self, folders: tuple[Path, ...]) -> frozenset[str]:
        """The names of folders of drop-ins in any of these folders: most services have none."""
        self._look(folders)
        return self._drop_ins

    def _look(self, folders: tuple[Path, ...]) -> None:
        # The same tuple comes a thousand times; to look it up would cost more than all else here.
        if folders is not self._folders:
            self._folders = folders
            self._holders = {}
            for folder in folders:
                for name in self.names(folder):
                    self._holders.setdefault(name, []).append(folder)
            self._drop_ins = frozenset(name for name in self._holders if name.endswith(".d"))

    def _read(self, folder: Path) -> frozenset[str]:
        names: list[str] = []
        links: list[str] = []
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                names.append(entry.name)
                if entry.is_symlink():
                    links.append(entry.name)
        self._links[folder] = frozenset(links)
        known = self._known[folder] = frozenset(names)
        return known


def drop_in_folders(names: Iterable[str], dirs: Iterable[Path], listings: Listings | None = None) -> tuple[Path, ...]:
    """All drop-in folders for a unit's `names` (primary first), in the order in which they win a file name.

    With `listings`, only those that exist.
    """
    dirs = tuple(dirs)
    known = None if listings is None else listings.drop_in_names(dirs)
    folders: list[Path] = []
    for name in (*names, ""):
        subs = tuple(_folder_names(name)) if name else ("service.d",)
        if known is not None:
            subs = tuple(sub for sub in subs if sub in known)
        for folder in dirs if subs else ():
            there = subs if listings is None else listings.names(folder)
            folders.extend(folder / sub for sub in subs if sub in there)
    return tuple(dict.fromkeys(folders))


def drop_ins(names: Iterable[str], dirs: Iterable[Path], listings: Listings | None = None) -> tuple[Path, ...]:
    """The drop-ins that apply to a service, in the order in which they apply; masked ones left out."""
    listings = listings or Listings()
    return drop_ins_in(drop_in_folders(names, dirs, listings), listings)


def drop_ins_in(folders: Iterable[Path], listings: Listings) -> tuple[Path, ...]:
    """The same, of folders that `drop_in_folders` found."""
    chosen: dict[str, Path | None] = {}
    for folder in folders:
        entries = sorted(listings.names(folder))
        for entry in entries:
            if entry.endswith(".conf") and not entry.startswith(".") and entry not in chosen:
                path = folder / entry
                chosen[entry] = None if _empty_or_null(path) else path
    return tuple(path for _, path in sorted(chosen.items(), key=lambda item: os.fsencode(item[0])) if path)


def _empty_or_null(path: Path) -> bool:
    """Whether a file masks those of its name in later folders: a link to /dev/null, or empty."""
    try:
        if path.is_symlink() and path.readlink() == MASK:
            return True
        facts = path.stat()
    except OSError:
        return True
    return stat.S_ISCHR(facts.st_mode) or (stat.S_ISREG(facts.st_mode) and facts.st_size == 0)


def is_masked(unit: str, dirs: Iterable[Path], listings: Listings | None = None) -> bool:
    """Whether the first file of that name is a link to /dev/null or empty."""
    listings = listings or Listings()
    return next((_empty_or_null(folder / unit) for folder in listings.holders(tuple(dirs), unit)), False)


def fragment(unit: str, dirs: Iterable[Path], listings: Listings | None = None) -> Path | None:
    """The file that defines `unit` (its own or its template's), or None; links are not resolved."""
    dirs = tuple(dirs)
    for name in (unit, template_of(unit)):
        if name is None:
            continue
        for folder in dirs if listings is None else listings.holders(dirs, name):
            path = folder / name
            if (path.is_symlink() if listings is None else name in listings.links(folder)) or path.is_file():
                return path
    return None
