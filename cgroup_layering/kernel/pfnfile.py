# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of the kernel with one 64-bit word per page frame: kpageflags, kpagecgroup, kpagecount.

Source: Documentation/admin-guide/mm/pagemap.rst. Reads must be aligned to 8 bytes; the file ends behind the
last page frame. Words are in the machine's byte order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cgroup_layering.closing import Closing
from cgroup_layering.errors import KernelFileError, NotPrivileged

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAGE_SIZE: int = os.sysconf("SC_PAGE_SIZE")
WORD = 8
CHUNK_PAGES = (1 << 20) // WORD  # 1 MiB per read, as `dd bs=1M`
# Bridging a gap costs the kernel a lookup per page frame, a further system call as much as about sixty.
GATHER_GAP = 64


class PfnFile(Closing):
    """One open file with a word per page frame. Use it as a context manager.

    Raises KernelFileError if the file is missing or unreadable, NotPrivileged without the rights for it.
    """

    name = ""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self.path = proc / self.name
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError as error:
            raise NotPrivileged(f"read {self.path}") from error
        except OSError as error:
            raise KernelFileError(self.path, self._missing(error)) from error

    def _missing(self, error: OSError) -> str:
        if isinstance(error, FileNotFoundError):
            return "the kernel has no such file (it needs CONFIG_PROC_PAGE_MONITOR and CONFIG_MEMCG)"
        return error.strerror or "unknown error"

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def read_into(self, start: int, buffer: NDArray[np.uint64]) -> int:
        """Fill `buffer` with the words of the page frames from `start` on.

        Out: how many words were read; fewer than asked for only at the file's end.
        """
        view = buffer.data.cast("B")
        done = 0
        while done < len(view):
            try:
                got = os.preadv(self._fd, [view[done:]], start * WORD + done)
            except OSError as error:
                raise KernelFileError(self.path, error.strerror or "unknown error") from error
            if got == 0:
                break
            done += got
        if done % WORD:
            raise KernelFileError(self.path, f"it ends in the middle of a word, {done % WORD} bytes too long")
        return done // WORD

    def read(self, start: int, count: int) -> NDArray[np.uint64]:
        """The words of page frames `start` to `start + count - 1`; shorter at the file's end."""
        buffer = np.empty(count, dtype=np.uint64)
        return buffer[: self.read_into(start, buffer)]

    def chunks(self, pages: int = CHUNK_PAGES) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """The whole file as (first page frame, words). The array is reused: use it before the next step."""
        buffer = np.empty(pages, dtype=np.uint64)
        start = 0
        while got := self.read_into(start, buffer):
            yield start, buffer[:got]
            start += got

    def gather(self, pfns: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The words of the page frames `pfns`, which must be in ascending order.

        Neighbours are read together. Words behind the file's end are 0.
        """
        if not len(pfns):
            return np.zeros(0, dtype=np.uint64)
        buffer, shifts, counts = self._stretches(pfns)
        result: NDArray[np.uint64] = buffer[pfns.view(np.int64) - np.repeat(shifts, counts)]
        return result

    def common(self, pfns: NDArray[np.uint64]) -> int:
        """The word that all page frames of `pfns`, which must be in ascending order, have in common; 0 if none."""
        if not len(pfns):
            return 0
        buffer, shifts, counts = self._stretches(pfns)
        raw = buffer.tobytes()
        if raw == raw[:WORD] * len(buffer):  # quicker than to compare words; the first page frame's is the first
            return int(buffer[0])
        same = buffer == buffer[0]
        return int(buffer[0]) if same[pfns.view(np.int64) - np.repeat(shifts, counts)].all() else 0

    def _stretches(self, pfns: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
        """Words of these page frames and of those in small gaps between them, in one array.

        Also, for each stretch: what to take off a page frame's number to have its place, and how many of `pfns` it has.
        """
        numbers = pfns.view(np.int64)
        starts = np.concatenate(([0], np.flatnonzero(numbers[1:] - numbers[:-1] > GATHER_GAP) + 1))
        counts = np.concatenate((starts[1:], [len(pfns)])) - starts
        bases = numbers[starts]
        spans = numbers[starts + counts - 1] - bases + 1
        places = np.cumsum(spans) - spans
        buffer = np.zeros(int(spans.sum()), dtype=np.uint64)
        # page frames of small files are all over the memory: no step more than needed for each stretch
        view = buffer.data.cast("B")
        for base, place, span in zip(bases.tolist(), places.tolist(), spans.tolist(), strict=True):
            try:
                got = os.preadv(self._fd, [view[place * WORD : (place + span) * WORD]], base * WORD)
            except OSError as error:
                raise KernelFileError(self.path, error.strerror or "unknown error") from error
            if got != span * WORD:
                self.read_into(base, buffer[place : place + span])
        return buffer, bases - places, counts
