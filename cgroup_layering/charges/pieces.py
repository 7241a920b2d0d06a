# SPDX-License-Identifier: LGPL-2.1-or-later
"""The short way through a large file: looked at inside the kernel, piece by piece, without mapping it.

As for many small files (charges.shortcut) it is believed only once it said the same about a piece as the long way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cgroup_layering.charges.look import Sums
from cgroup_layering.kernel.file_walk import PIECE_PAGES, FileWalk

AFTER_PAGES = 8 * PIECE_PAGES  # a file whose long way takes longer than to load the program
TRIALS = 4  # pieces: one that changes meanwhile is no sign of anything


class Pieces:
    """Says what it can about pieces of large files; the long way has to say the rest.

    `walk` gives the program, or None where there is none.
    """

    def __init__(self, walk: Callable[[], FileWalk | None]) -> None:
        self._walk = walk
        self._trials = TRIALS
        self._fd = -1
        self.is_proven = False

    @contextmanager
    def of(self, fd: int, pages: int) -> Iterator[None]:
        """Have `look` tell about this open file of so many pages, if it is large enough."""
        if pages >= AFTER_PAGES and self._trials and self._walk() is not None:
            try:  # a place to read at of our own
                self._fd = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                self._fd = -1
        try:
            yield
        finally:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def look(self, first_page: int) -> Sums | None:
        """What is said of the PIECE_PAGES from there on; None if it can't tell."""
        walk = self._walk()
        if self._fd < 0 or walk is None or not self._trials:
            return None
        try:
            records = walk.piece(self._fd, first_page)
        except OSError:
            self._trials = 0
            return None
        if records is None or records["passed_over"][0]:
            return None
        record = records[0]
        told = ((int(record[f"{which}_owner"]), int(record[f"{which}_pages"])) for which in ("first", "second"))
        return Sums(int(record["resident"]), 0, {owner: pages for owner, pages in told if owner}, {})

    def compare(self, short: Sums, long: Sums) -> None:
        """Believe it from now on if it said the same about a piece as the long way; give it up if it never does."""
        if not short.resident or long.raced:
            return
        self.is_proven = (short.resident, short.owners) == (long.resident, long.owners)
        self._trials -= not self.is_proven
