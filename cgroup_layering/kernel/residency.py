# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which pages of open files are in memory, and in which page frames, without bringing anything in.

A window is a stretch of this process's addresses into which pieces of files are mapped one behind another, so
that one mincore and one look into the page map serve many small files, or one piece of a large one. It is
small because every page mapped in it counts as resident memory of this process.

Looking changes no charge: only pages that are resident already are mapped (MADV_POPULATE_READ after
MADV_RANDOM, so that no readahead starts), and a page that is charged stays charged where it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cgroup_layering.closing import Closing
from cgroup_layering.kernel import mman
from cgroup_layering.kernel.pfnfile import PAGE_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cgroup_layering.kernel.pagemap import PageMap

WINDOW_PAGES = 4096  # 16 MiB
_FAULT_AROUND = (64 << 10) // PAGE_SIZE or 1  # fault_around_bytes of mm/memory.c, as it is unless somebody changed it
# Ends of a range that are no mistake of ours: the file shrank, the disk or the memory failed.
_EHWPOISON = 133  # asm-generic/errno.h; Python has no name for it
_PASSING = frozenset({errno.EFAULT, _EHWPOISON, errno.EIO})


def runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where `mask` is true, as (first, behind the last) pairs in ascending order."""
    if len(mask) and mask.all():
        return [(0, len(mask))]
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    pairs: list[list[int]] = edges.reshape(-1, 2).tolist()
    return [(first, last) for first, last in pairs]


class Window(Closing):
    """Address space for `pages` pages of mapped files. Use it as a context manager."""

    def __init__(self, pages: int = WINDOW_PAGES) -> None:
        self.pages = pages
        self.used = 0
        self._can_populate = True
        flags = mman.MAP_PRIVATE | mman.MAP_ANONYMOUS | mman.MAP_NORESERVE
        self._base = mman.mmap(None, pages * PAGE_SIZE, mman.PROT_NONE, flags, -1, 0)

    @property
    def free(self) -> int:
        """Pages that can still be mapped."""
        return self.pages - self.used

    def close(self) -> None:
        """Give the address space back."""
        mman.munmap(self._base, self.pages * PAGE_SIZE)

    def map(self, fd: int, first_page: int, pages: int) -> int:
        """Map `pages` pages of a file from `first_page` on; out: their place in the window, in pages.

        Raises ValueError if there is no room, OSError if the file can't be mapped.
        """
        if pages > self.free:
            raise ValueError(f"{pages} pages do not fit into the {self.free} free ones of the window")
        place = self.used
        address, length = self._base + place * PAGE_SIZE, pages * PAGE_SIZE
        flags = mman.MAP_SHARED | mman.MAP_FIXED
        mman.mmap(address, length, mman.PROT_READ, flags, fd, first_page * PAGE_SIZE)
        self.used += pages
        return place

    def map_files(self, fds: Sequence[int], pages: Sequence[int]) -> int:
        """Map whole files of so many pages, one behind another; out: how many of them were mapped.

        Stops before the first that has no room or can't be mapped: `map` says why.
        """
        start, end = self._base + self.used * PAGE_SIZE, self._base + self.pages * PAGE_SIZE
        done, behind = mman.map_files(start, end, fds, [count * PAGE_SIZE for count in pages])
        self.used = (behind - self._base) // PAGE_SIZE
        return done

    def reset(self) -> None:
        """Unmap everything that was mapped."""
        if self.used:
            flags = mman.MAP_PRIVATE | mman.MAP_ANONYMOUS | mman.MAP_NORESERVE | mman.MAP_FIXED
            mman.mmap(self._base, self.used * PAGE_SIZE, mman.PROT_NONE, flags, -1, 0)
            self.used = 0

    def resident(self) -> NDArray[np.bool_]:
        """For each mapped page, whether it is in memory now (mincore)."""
        vector = np.zeros(max(self.used, 1), dtype=np.uint8)
        if self.used:
            mman.mincore(self._base, self.used * PAGE_SIZE, vector.ctypes.data)
        return (vector[: self.used] & 1).view(np.bool_)

    def populate(self, mask: NDArray[np.bool_]) -> int:
        """Map the page frames of the pages in `mask`, which should be resident.

        Out: how many pages had to be read from disk or swap after all, because they were evicted between
        mincore and now. A page that can't be had any more (the file shrank) is left out.
        """
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_majflt
        # one call for all files; a fault on a page that was evicted meanwhile brings that page alone in
        mman.madvise(self._base, self.used * PAGE_SIZE, mman.MADV_RANDOM)
        for first, last in runs(mask):
            self._populate_range(first, last)
        return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt - before

    def _populate_range(self, first: int, last: int) -> None:
        while self._can_populate:
            length = (last - first) * PAGE_SIZE
            number = mman.madvise(self._base + first * PAGE_SIZE, length, mman.MADV_POPULATE_READ)
            if number == 0 or number in _PASSING:
                return
            if number == errno.EINVAL:  # Linux before 5.14
                self._can_populate = False
            elif number not in (errno.EINTR, errno.EAGAIN):
                raise OSError(number, os.strerror(number))
        self._touch(np.arange(first, last))

    def populate_around(self) -> None:
        """Map the page frames of all pages, which should be resident: by far the most, not each for certain.

        Made for one large file: a fault maps the resident pages around it too (filemap_map_pages() in mm/filemap.c),
        and one fault for each 64 KiB takes less than a step for each page. `populate` does what is left.
        """
        mman.madvise(self._base, self.used * PAGE_SIZE, mman.MADV_RANDOM)
        start = _FAULT_AROUND - self._base // PAGE_SIZE % _FAULT_AROUND  # a fault maps an aligned stretch
        # without the right to read memory like this, everything is left to `populate`
        with contextlib.suppress(OSError):
            self._touch(np.concatenate(([0], np.arange(start, self.used, _FAULT_AROUND))))

    def _touch(self, pages: NDArray[np.int64]) -> None:
        """Read one byte of each of these pages, as kernels without MADV_POPULATE_READ need it."""
        bytes_read = np.empty(mman.IOV_MAX, dtype=np.uint8)
        vectors = np.ones((len(pages), 2), dtype=np.uint64)
        vectors[:, 0] = pages * PAGE_SIZE + self._base
        done = 0
        while done < len(pages):
            count = min(len(pages) - done, mman.IOV_MAX)
            sink = np.array([bytes_read.ctypes.data, count], dtype=np.uint64)
            got = mman.touch(vectors[done:].ctypes.data, count, sink.ctypes.data)
            done += max(got, 1)  # a page that can't be read is passed over

    def words(self, pagemap: PageMap) -> NDArray[np.uint64]:
        """What the page map says about each mapped page, undecoded. Raises as PageMap.words does."""
        return pagemap.words(self._base, self.used)
