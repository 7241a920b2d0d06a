# SPDX-License-Identifier: LGPL-2.1-or-later
"""All page frames of the host, counted by cgroup and kind.

Made to cost little more than reading the two files: /proc/kpageflags is read only where /proc/kpagecgroup
says that something is charged, and the arithmetic works on runs of like page frames, not on single ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cgroup_layering.charges.pages import BLOCK
from cgroup_layering.kernel.kpagecgroup import KPageCgroup
from cgroup_layering.kernel.kpageflags import KPageFlags, PageFlag
from cgroup_layering.kernel.residency import runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 64 * BLOCK  # 512 KiB of each file at a time stay in the processor's cache

# A page of the page cache is on an LRU list, or up to date while it waits in a batch for one.
_CACHE = PageFlag.LRU | PageFlag.UPTODATE
_RELEVANT = _CACHE | PageFlag.ANON | PageFlag.SWAPBACKED | PageFlag.COMPOUND_TAIL
_OTHER, _FILE, _SHMEM, _ANON = range(4)
_KINDS = 4


@dataclass(frozen=True)
class PageCounts:
    """Pages charged to one cgroup itself, by kind."""

    file: int = 0
    """Page cache of files, tmpfs not included."""
    shmem: int = 0
    """tmpfs, shared memory, memfd."""
    anon: int = 0
    other: int = 0
    """Kernel memory that is charged by the page: vmalloc, kernel stacks, page tables ..."""

    @property
    def total(self) -> int:
        """All kinds together."""
        return self.file + self.shmem + self.anon + self.other

    def __add__(self, more: PageCounts) -> PageCounts:
        return PageCounts(
            self.file + more.file, self.shmem + more.shmem, self.anon + more.anon, self.other + more.other
        )


@dataclass(frozen=True)
class PageScan:
    """What a scan found: page frames in all, and those charged, by the cgroup's inode number."""

    frames: int
    cgroups: Mapping[int, PageCounts]

    @property
    def charged(self) -> int:
        """Page frames charged to any cgroup."""
        return sum(counts.total for counts in self.cgroups.values())


class _Tally:
    """Counts by (cgroup, kind), fed stretch by stretch."""

    def __init__(self) -> None:
        self.counts: dict[int, NDArray[np.int64]] = {}

    def add(self, cgroups: NDArray[np.uint64], flags: NDArray[np.uint64]) -> None:
        """Count a stretch that begins at a multiple of BLOCK."""
        flags &= np.uint64(_RELEVANT)
        edges = np.flatnonzero((cgroups[1:] != cgroups[:-1]) | (flags[1:] != flags[:-1])) + 1
        starts = np.concatenate((np.zeros(1, dtype=np.int64), edges))
        lengths = np.diff(starts, append=len(cgroups))
        owner, flag = cgroups[starts], flags[starts]
        tail = (flag & np.uint64(PageFlag.COMPOUND_TAIL)) != 0
        if tail.any():
            owner, flag = self._as_their_heads(owner, flag, tail)
        kind = np.where((flag & np.uint64(_CACHE)) != 0, _FILE, _OTHER)
        kind[(flag & np.uint64(PageFlag.SWAPBACKED)) != 0] = _SHMEM
        kind[(flag & np.uint64(PageFlag.ANON)) != 0] = _ANON
        names, index = np.unique(owner, return_inverse=True)
        sums = np.bincount(index * _KINDS + kind, weights=lengths, minlength=len(names) * _KINDS)
        for name, row in zip(names.tolist(), sums.reshape(-1, _KINDS).astype(np.int64), strict=True):
            if name:
                self.counts[name] = self.counts[name] + row if name in self.counts else row

    @staticmethod
    def _as_their_heads(
        owner: NDArray[np.uint64], flag: NDArray[np.uint64], tail: NDArray[np.bool_]
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """A run of tails is what the run before it, which ends with its head, is."""
        head = np.maximum.accumulate(np.where(tail, 0, np.arange(len(tail), dtype=np.int64)))
        return np.where(owner == 0, owner[head], owner), flag[head]


def scan_host(proc: Path = Path("/proc")) -> PageScan:
    """Count every page frame of the host. Memory used does not depend on the host's size.

    Raises KernelFileError if the kernel has no such files, NotPrivileged if they are closed to the caller.
    """
    tally = _Tally()
    frames = 0
    words = np.empty(CHUNK, dtype=np.uint64)
    flags = np.empty(CHUNK, dtype=np.uint64)
    with KPageCgroup(proc) as kpagecgroup, KPageFlags(proc) as kpageflags:
        while got := kpagecgroup.read_into(frames, words):
            blocks = -(-got // BLOCK)
            words[got : blocks * BLOCK] = 0
            charged = words[: blocks * BLOCK].reshape(blocks, BLOCK).any(axis=1)
            for first, last in runs(charged):
                start, end = first * BLOCK, min(last * BLOCK, got)
                have = kpageflags.read_into(frames + start, flags[: end - start])
                tally.add(words[start : start + have], flags[:have])
            frames += got
    return PageScan(
        frames,
        {
            name: PageCounts(file=int(row[_FILE]), shmem=int(row[_SHMEM]), anon=int(row[_ANON]), other=int(row[_OTHER]))
            for name, row in sorted(tally.counts.items())
        },
    )
