# SPDX-License-Identifier: LGPL-2.1-or-later
"""Services of which nothing has to be asked: systemd has read their files as they are now, and these tell all."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cgroup_layering.model import ServiceFacts
from cgroup_layering.naming import SERVICE_SUFFIX, template_of
from cgroup_layering.offline import parent_slice
from cgroup_layering.systemd.manager import Reading, UnitRow
from cgroup_layering.telling import leans_on, tells_all
from cgroup_layering.unitfile import Setting, UnitFiles
from cgroup_layering.unitpaths import Listings

_TICK = 0.02
"""Time stamps of files are this much coarser than systemd's clock at most (seconds; a tick of HZ=100 twice)."""
_STEP = 1.0
"""More than this between two clocks (seconds) means that one was set meanwhile."""
_GENERATED = frozenset(("transient", "generator", "generator.early", "generator.late"))
"""Folders in /run/systemd that systemd writes itself, whose changes are no sign of anything; what is in them is asked
about."""
_AT_REST = frozenset((("inactive", "dead"), ("failed", "failed")))


class Unasked:
    """Looks for services whose files are older than systemd's last reading of all of them.

    The change times of files and folders tell (inode(7), ctime): no program can set those back.
    """

    def __init__(
        self, reading: Reading, dirs: Sequence[Path], listings: Listings, groups: Mapping[str, Sequence[str]]
    ) -> None:
        self._reading = reading
        self._dirs = dirs
        self._listings = listings
        self._groups = groups
        self._before = reading.realtime - _TICK
        self._riddles = self._alias_targets() | self._required_by_links()
        self._folders: dict[Path, bool] = {}

    @property
    def any(self) -> bool:
        """Whether there can be such services at all.

        Not where the clock was set since that reading, and not where a unit may have lost files or links since.
        """
        if not self._reading.realtime or self._reading.outdated:
            return False
        since = time.time() - self._reading.realtime, time.monotonic() - self._reading.monotonic
        if abs(since[0] - since[1]) > _STEP:
            return False
        return all(self._is_older(place) for place in self._dirs if place.name not in _GENERATED)

    def group(self, row: UnitRow) -> str | None:
        """The cgroup of a service that is in no need of questions, or None for one that is."""
        known = self._groups.get(row.name, ())
        if row.load_state != "loaded" or row.job or row.name in self._riddles or template_of(row.name) is not None:
            return None
        if (row.active_state, row.sub_state) == ("active", "running"):
            return known[0] if len(known) == 1 else None
        return "" if not known and (row.active_state, row.sub_state) in _AT_REST else None

    def leanings(
        self, unit: str, folders: Iterable[Path], chain: Iterable[tuple[Path, tuple[Setting, ...]]]
    ) -> frozenset[str] | None:
        """Whom a service leans on, if its files are as systemd read them and tell all; else None.

        `folders` are those of its drop-ins, also those in which nothing is left.
        """
        if not all(self._is_real_and_older(folder) for folder in folders):
            return None
        settings: list[Setting] = []
        for path, lines in chain:
            folder = path.parent
            if path.name in self._listings.links(folder) or not self._is_older(path):
                return None
            if _GENERATED.intersection((folder.name, folder.parent.name)):
                return None
            settings.extend(lines)
        return leans_on(unit, settings) if tells_all(unit, settings) else None

    def complete(
        self, facts: ServiceFacts, group: str, chain: Iterable[tuple[Path, tuple[Setting, ...]]]
    ) -> ServiceFacts:
        """The facts of the files with those that systemd adds; the slice is what all files say, ours too."""
        named = facts.files.last("Service", "OOMPolicy")
        whole = UnitFiles(tuple(setting for _, lines in chain for setting in lines))
        place = parent_slice(facts.unit, whole)
        return replace(facts, slice=place, control_group=group, oom_policy=named or self._reading.oom_policy)

    def _is_real_and_older(self, folder: Path) -> bool:
        known = self._folders.get(folder)
        if known is None:
            linked = folder.name in self._listings.links(folder.parent)
            known = self._folders[folder] = not linked and self._is_older(folder)
        return known

    def _is_older(self, path: Path) -> bool:
        try:
            return path.stat().st_ctime < self._before
        except OSError:
            return False

    def _alias_targets(self) -> frozenset[str]:
        """Names that links in the folders of unit files lead to, and the links' own."""
        found: set[str] = set()
        for folder in self._dirs:
            for name in self._listings.links(folder):
                if name.endswith(SERVICE_SUFFIX):
                    found.update((name, (folder / name).readlink().name))
        return frozenset(found)

    def _required_by_links(self) -> frozenset[str]:
        """Services whose restart others follow, as links say."""
        found: set[str] = set()
        for folder in self._dirs:
            for name in self._listings.names(folder):
                if name.endswith(f"{SERVICE_SUFFIX}.requires"):
                    found |= self._listings.names(folder / name)
        return frozenset(found)
