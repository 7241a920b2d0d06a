# SPDX-License-Identifier: LGPL-2.1-or-later
"""One look at all that is mapped in a window: how many pages of each file are in memory, and who is charged.

Exact for what it counts: a page is counted only if the same page frame backed it before and after its owner
was read. What moved, came or went meanwhile is counted as raced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cgroup_layering.charges.pages import PageOwners
from cgroup_layering.kernel.pagemap import PFN_MASK, PRESENT, PageMap
from cgroup_layering.kernel.residency import WINDOW_PAGES, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(slots=True)
class Sums:
    """What was counted of one file, or of a part of it. Owners are inode numbers of cgroups, 0 for none."""

    resident: int
    raced: int
    owners: dict[int, int]
    unmapped: dict[int, int]

    def add(self, more: Sums) -> None:
        """Add another part of the same file."""
        self.resident += more.resident
        self.raced += more.raced
        for mine, theirs in ((self.owners, more.owners), (self.unmapped, more.unmapped)):
            for owner, pages in theirs.items():
                mine[owner] = mine.get(owner, 0) + pages


class Looker:
    """A window with the kernel's files that tell about it.

    Raises KernelFileError or NotPrivileged if these are missing or closed to the caller.
    """

    def __init__(
        self, *, count_mappings: bool = False, window_pages: int = WINDOW_PAGES, proc: Path = Path("/proc")
    ) -> None:
        self._count_mappings = count_mappings
        self.pages = PageOwners(proc)
        self.pagemap = PageMap(proc)
        self.window = Window(window_pages)

    def close(self) -> None:
        """Close the kernel's files and give the window back."""
        self.window.close()
        self.pagemap.close()
        self.pages.close()

    def look(self, mapped: Sequence[int], *, all_resident: bool = False) -> list[Sums]:
        """The sums of the files in the window, which have so many pages each, one behind another.

        `all_resident` says that all of the pages were seen in memory just now.
        """
        if all_resident and len(mapped) == 1 and not self._count_mappings:
            self.window.populate_around()
            if owner := self._owner_of_all():
                return [Sums(pages, 0, {owner: pages} if pages else {}, {}) for pages in mapped]
        resident = np.ones(self.window.used, dtype=np.bool_) if all_resident else self.window.resident()
        if not resident.any():
            return [Sums(0, 0, {}, {}) for _ in mapped]
        self.window.populate(resident)
        if not self._count_mappings and (all_resident or bool(resident.all())) and (owner := self._owner_of_all()):
            return [Sums(pages, 0, {owner: pages} if pages else {}, {}) for pages in mapped]
        return self._one_by_one(np.array(mapped), resident, self.window.words(self.pagemap))

    def _owner_of_all(self) -> int:
        """Who is charged for every page in the window, read in a few passes; 0 if it isn't as simple as that."""
        words = self.window.words(self.pagemap)
        ordered = np.sort(words, kind="stable")
        lowest, highest = int(ordered[0]), int(ordered[-1])
        if lowest < PRESENT or (lowest ^ highest) > PFN_MASK or not lowest & PFN_MASK:
            return 0
        owner = self.pages.common_owner(ordered & np.uint64(PFN_MASK))
        # every page has to be where it was
        return owner if owner and self.window.words(self.pagemap).tobytes() == words.tobytes() else 0

    def _one_by_one(
        self, mapped: NDArray[np.int64], resident: NDArray[np.bool_], words: NDArray[np.uint64]
    ) -> list[Sums]:
        before = self.pagemap.frames(words)
        seen = np.flatnonzero(resident & (before != 0))
        pfns = before[seen]
        order = np.argsort(pfns, kind="stable")
        pfns, seen = pfns[order], seen[order]
        owners = self.pages.owners(pfns)
        counts = self.pages.counts(pfns) if self._count_mappings else None
        # a page frame that changed hands meanwhile shows here, and its owner is not believed
        steady = self.pagemap.frames(self.window.words(self.pagemap))[seen] == pfns
        # what came meanwhile raced too
        raced = resident | self.window.resident()
        raced[seen[steady]] = False
        files = len(mapped)
        place = np.repeat(np.arange(files), mapped)
        here = np.bincount(place[resident], minlength=files).tolist()
        lost = np.bincount(place[raced], minlength=files).tolist()
        sums = [Sums(pages, gone, {}, {}) for pages, gone in zip(here, lost, strict=True)]
        for file, owner, pages in _tally(place[seen[steady]], owners[steady]):
            sums[file].owners[owner] = pages
        if counts is not None:
            alone = steady & (counts <= 1)
            for file, owner, pages in _tally(place[seen[alone]], owners[alone]):
                sums[file].unmapped[owner] = pages
        return sums


def _tally(place: NDArray[np.int64], owners: NDArray[np.uint64]) -> Iterator[tuple[int, int, int]]:
    """How often each (place, owner) pair occurs, as (place, owner, times)."""
    if len(owners) and (owners == owners[0]).all():  # the usual case needs no sorting
        times = np.bincount(place)
        places = np.flatnonzero(times)
        return zip(places.tolist(), repeat(int(owners[0])), times[places].tolist(), strict=False)
    names, index = np.unique(owners, return_inverse=True)
    cells, times = np.unique(place * max(len(names), 1) + index, return_counts=True)
    places, of = np.divmod(cells, max(len(names), 1))
    return zip(places.tolist(), names[of].tolist(), times.tolist(), strict=True)
