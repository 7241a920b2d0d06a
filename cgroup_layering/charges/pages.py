# SPDX-License-Identifier: LGPL-2.1-or-later
"""From page frames to the cgroups that are charged for them, tails of compound pages included."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cgroup_layering.closing import Closing
from cgroup_layering.kernel.kpagecgroup import KPageCgroup, KPageCount
from cgroup_layering.kernel.kpageflags import KPageFlags, PageFlag

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The largest compound page that can be charged where tails aren't resolved by the kernel: MAX_ORDER is 10.
BLOCK = 1024


def head_positions(flags: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each page frame of a stretch, the position of its compound page's head, or its own.

    The stretch must begin at a multiple of BLOCK, so that heads come before their tails; -1 for tails
    whose head lies before it all the same.
    """
    tail = (flags & np.uint64(PageFlag.COMPOUND_TAIL)) != 0
    positions = np.where(tail, -1, np.arange(len(flags), dtype=np.int64))
    result: NDArray[np.int64] = np.maximum.accumulate(positions)
    return result


class PageOwners(Closing):
    """The open /proc/kpage* files. Use it as a context manager.

    Raises KernelFileError or NotPrivileged if one of them can't be opened or read.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._cgroups = KPageCgroup(proc)
        self._flags = KPageFlags(proc)
        self._counts = KPageCount(proc)

    def close(self) -> None:
        """Close the files."""
        for file in (self._cgroups, self._flags, self._counts):
            file.close()

    def owners(self, pfns: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The cgroup's inode number for each of `pfns`, which must be ascending; 0 for none."""
        result = self._cgroups.gather(pfns)
        silent = np.flatnonzero(result == 0)
        if len(silent):
            flags = self._flags.gather(pfns[silent])
            tails = silent[(flags & np.uint64(PageFlag.COMPOUND_TAIL)) != 0]
            if len(tails):
                result[tails] = self._owners_of_heads(pfns[tails])
        return result

    def common_owner(self, pfns: NDArray[np.uint64]) -> int:
        """The one cgroup that all of `pfns`, which must be ascending, are charged to.

        0 if there are several, if some are charged to none, or if only `owners` can tell.
        """
        return self._cgroups.common(pfns)

    def _owners_of_heads(self, tails: NDArray[np.uint64]) -> NDArray[np.uint64]:
        result = np.zeros(len(tails), dtype=np.uint64)
        bases = tails - tails % np.uint64(BLOCK)
        uniques, firsts = np.unique(bases, return_index=True)
        ends = np.append(firsts[1:], len(tails))
        for base, first, last in zip(uniques.tolist(), firsts.tolist(), ends.tolist(), strict=True):
            heads = head_positions(self._flags.read(base, BLOCK))
            inside = (tails[first:last] - np.uint64(base)).astype(np.int64)
            inside = np.minimum(inside, len(heads) - 1)
            words = self._cgroups.read(base, len(heads))
            found = heads[inside]
            result[first:last] = np.where(found >= 0, words[np.maximum(found, 0)], 0)
        return result

    def counts(self, pfns: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """How many page table entries map each of `pfns`, which must be ascending."""
        return self._counts.gather(pfns)
