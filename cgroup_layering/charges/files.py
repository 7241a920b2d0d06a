# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is charged for the pages of a file, tmpfs included.

Exact for what it counts: a page is counted only if the same page frame backed it before and after its owner
was read. What moved, came or went meanwhile is counted as raced.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from cgroup_layering.charges.model import FileCharges, FileId
from cgroup_layering.charges.openfile import UnreadableFile, open_regular, require_regular
from cgroup_layering.charges.pages import PageOwners
from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.kernel.mman import cached_pages
from cgroup_layering.kernel.pagemap import PageMap
from cgroup_layering.kernel.pfnfile import PAGE_SIZE
from cgroup_layering.kernel.residency import WINDOW_PAGES, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Attributor", "FileCharges", "FileId", "Openable", "UnreadableFile", "file_charges"]

# Files larger than this are asked how much of a stretch is cached before the stretch is mapped.
STRETCH_PAGES = (1 << 30) // PAGE_SIZE


class Openable(Protocol):
    """Something that knows how to open its file, such as service_files.ServiceFile."""

    @property
    def path(self) -> Path: ...

    def open(self) -> int: ...


Target = Path | int | Openable


@dataclass
class _Pending:
    """A file whose pages are being counted."""

    path: Path
    status: os.stat_result
    resident: int = 0
    raced: int = 0
    owners: Counter[int] = field(default_factory=Counter)
    unmapped: Counter[int] = field(default_factory=Counter)

    def finished(self, count_mappings: bool) -> FileCharges:
        return FileCharges(
            path=self.path,
            device=self.status.st_dev,
            inode=self.status.st_ino,
            size_bytes=self.status.st_size,
            resident_pages=self.resident,
            owners=dict(self.owners),
            owners_unmapped=dict(self.unmapped) if count_mappings else None,
            raced_pages=self.raced,
        )


class Attributor:
    """Attributes the pages of many files, with one window and one set of open kernel files.

    Use it as a context manager. Raises KernelFileError or NotPrivileged if the kernel's files are missing
    or closed to the caller.
    """

    def __init__(
        self, *, count_mappings: bool = False, window_pages: int = WINDOW_PAGES, proc: Path = Path("/proc")
    ) -> None:
        self._count_mappings = count_mappings
        self._pages = PageOwners(proc)
        self._pagemap = PageMap(proc)
        self._window = Window(window_pages)
        self._pieces: list[tuple[_Pending, int]] = []
        self._queue: deque[_Pending] = deque()

    def close(self) -> None:
        """Close the kernel's files and give the window back."""
        self._window.close()
        self._pagemap.close()
        self._pages.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def charges(
        self, targets: Iterable[Target], on_error: Callable[[CgroupLayeringError], object] | None = None
    ) -> Iterator[FileCharges]:
        """The charges of each target, in the order given, a few at a time.

        Targets are paths (a symbolic link is refused), open descriptors (left open), or objects that open
        themselves. A file that can't be looked at is passed to `on_error` and left out; without it
        UnreadableFile is raised.
        """
        for target in targets:
            try:
                self._add(target)
            except UnreadableFile as error:
                if on_error is None:
                    raise
                on_error(error)
            if len(self._queue) > self._window.pages:  # empty files need no window, but they queue up
                self._flush()
            while self._queue and not self._is_waiting(self._queue[0]):
                yield self._queue.popleft().finished(self._count_mappings)
        self._flush()
        while self._queue:
            yield self._queue.popleft().finished(self._count_mappings)

    def _is_waiting(self, pending: _Pending) -> bool:
        # pieces are in the order of the queue, so the oldest file waits if it has the first piece
        return bool(self._pieces) and self._pieces[0][0] is pending

    def _add(self, target: Target) -> None:
        if isinstance(target, int):
            path, fd = Path(f"/proc/self/fd/{target}"), target
        elif isinstance(target, Path):
            path, fd = target, open_regular(target)
        else:
            path, fd = target.path, target.open()
        try:
            status = os.fstat(fd)
            require_regular(path, status.st_mode)
            pending = _Pending(path, status)
            self._map_all(pending, fd)
            self._queue.append(pending)
        except OSError as error:
            self._flush()
            raise UnreadableFile(path, error.strerror or "unknown error") from error
        finally:
            if not isinstance(target, int):
                os.close(fd)

    def _map_all(self, pending: _Pending, fd: int) -> None:
        total = -(-pending.status.st_size // PAGE_SIZE)
        done = 0
        while done < total:
            if total > STRETCH_PAGES and done % STRETCH_PAGES == 0:
                stretch = min(STRETCH_PAGES, total - done)
                if cached_pages(fd, done * PAGE_SIZE, stretch * PAGE_SIZE) == 0:
                    done += stretch
                    continue
            if not self._window.free:
                self._flush()
            count = min(total - done, self._window.free, STRETCH_PAGES - done % STRETCH_PAGES)
            self._window.map(fd, done, count)
            self._pieces.append((pending, count))
            done += count

    def _flush(self) -> None:
        """Look at everything in the window, hand the counts to their files, and empty the window."""
        pieces, self._pieces = self._pieces, []
        try:
            resident = self._window.resident()
            if resident.any():
                self._look(pieces, resident)
        finally:
            self._window.reset()

    def _look(self, pieces: list[tuple[_Pending, int]], resident: NDArray[np.bool_]) -> None:
        self._window.populate(resident)
        before = self._window.pfns(self._pagemap)
        seen = np.flatnonzero(resident & (before != 0))
        seen = seen[np.argsort(before[seen], kind="stable")]
        owners = self._pages.owners(before[seen])
        counts = self._pages.counts(before[seen]) if self._count_mappings else None
        # a page frame that changed hands meanwhile shows here, and its owner is not believed
        steady = self._window.pfns(self._pagemap)[seen] == before[seen]
        appeared = self._window.resident() & ~resident
        place = np.repeat(np.arange(len(pieces)), [count for _, count in pieces])
        known = np.zeros(len(resident), dtype=np.bool_)
        known[seen[steady]] = True
        sums = np.bincount(place[resident], minlength=len(pieces)).tolist()
        lost = np.bincount(place[(resident & ~known) | appeared], minlength=len(pieces)).tolist()
        for (pending, _), here, raced in zip(pieces, sums, lost, strict=True):
            pending.resident += here
            pending.raced += raced
        for piece, owner, pages in _tally(place[seen[steady]], owners[steady]):
            pieces[piece][0].owners[owner] += pages
        if counts is not None:
            alone = steady & (counts <= 1)
            for piece, owner, pages in _tally(place[seen[alone]], owners[alone]):
                pieces[piece][0].unmapped[owner] += pages


def _tally(place: NDArray[np.int64], owners: NDArray[np.uint64]) -> Iterator[tuple[int, int, int]]:
    """How often each (place, owner) pair occurs, as (place, owner, times)."""
    names, index = np.unique(owners, return_inverse=True)
    cells, times = np.unique(place * max(len(names), 1) + index, return_counts=True)
    for cell, count in zip(cells.tolist(), times.tolist(), strict=True):
        piece, owner = divmod(cell, len(names))
        yield piece, int(names[owner]), count


def file_charges(target: Target, *, count_mappings: bool = False) -> FileCharges:
    """The charges of one file. In and out, and the errors raised: as Attributor.charges."""
    with Attributor(count_mappings=count_mappings) as attributor:
        return next(attributor.charges([target]))
