# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page cache of one file: what is in memory, out of it, and in again. Light imports: the worker runs this."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cgroup_layering.kernel import mman

PAGE: int = os.sysconf("SC_PAGE_SIZE")
WINDOW_PAGES = 16384
"""Pages looked at in one go."""
READ_BYTES = 1 << 20

Stretch = tuple[int, int]
"""First page, and how many."""


def resident(fd: int, size_bytes: int) -> list[Stretch]:
    """The stretches of a file that are in memory (mincore(2)), ascending. Raises OSError.

    Brings nothing in: the mapping is never touched.
    """
    total = -(-size_bytes // PAGE)
    found: list[Stretch] = []
    for start in range(0, total, WINDOW_PAGES):
        count = min(WINDOW_PAGES, total - start)
        for first, length in _runs(_mincore(fd, start, count), start):
            if found and found[-1][0] + found[-1][1] == first:
                found[-1] = (found[-1][0], found[-1][1] + length)
            else:
                found.append((first, length))
    return found


def _mincore(fd: int, start: int, count: int) -> bytes:
    vector = ctypes.create_string_buffer(count)
    address = mman.mmap(None, count * PAGE, mman.PROT_READ, mman.MAP_SHARED, fd, start * PAGE)
    try:
        mman.mincore(address, count * PAGE, ctypes.addressof(vector))
    finally:
        mman.munmap(address, count * PAGE)
    return vector.raw.translate(_LOW_BIT)


_LOW_BIT = bytes(value & 1 for value in range(256))


def _runs(vector: bytes, base: int) -> Iterator[Stretch]:
    first = vector.find(1)
    while first >= 0:
        end = vector.find(0, first)
        end = len(vector) if end < 0 else end
        yield base + first, end - first
        first = vector.find(1, end)


def pages(stretches: Iterable[Stretch]) -> int:
    """How many pages these are."""
    return sum(count for _, count in stretches)


def without(stretches: Iterable[Stretch], others: Iterable[Stretch]) -> list[Stretch]:
    """What is in `stretches` and not in `others`; both ascending and without overlaps."""
    result: list[Stretch] = []
    holes = list(others)
    at = 0
    for first, count in stretches:
        end = first + count
        while at < len(holes) and holes[at][0] + holes[at][1] <= first:
            at += 1
        look = at
        while first < end:
            if look >= len(holes) or holes[look][0] >= end:
                result.append((first, end - first))
                break
            start, length = holes[look]
            if start > first:
                result.append((first, start - first))
            first = start + length
            look += 1
    return result


@dataclass(frozen=True)
class Evicted:
    """What was in memory, and what of it is no longer."""

    before: list[Stretch]
    gone: list[Stretch]


def evict(fd: int, size_bytes: int) -> Evicted:
    """Write back what is dirty and drop the file's pages; pages that a process maps stay. Raises OSError.

    posix_fadvise(2): POSIX_FADV_DONTNEED leaves dirty and mapped pages alone.
    """
    before = resident(fd, size_bytes)
    if before:
        os.fdatasync(fd)
        for first, count in before:
            os.posix_fadvise(fd, first * PAGE, count * PAGE, os.POSIX_FADV_DONTNEED)
    return Evicted(before, without(before, resident(fd, size_bytes)) if before else [])


def refill(fd: int, stretches: Iterable[Stretch]) -> int:
    """Read these stretches and no more, so that whoever runs this is charged; bytes read. Raises OSError.

    POSIX_FADV_RANDOM: what was not in memory before is not read ahead. What others brought in meanwhile is skipped.
    """
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    buffer = bytearray(READ_BYTES)
    done = 0
    missing = without(stretches, resident(fd, os.fstat(fd).st_size))
    for first, count in missing:
        at, end = first * PAGE, (first + count) * PAGE
        while at < end:
            got = os.preadv(fd, [memoryview(buffer)[: min(READ_BYTES, end - at)]], at)
            if not got:  # the file shrank
                break
            at += got
            done += got
    return done
