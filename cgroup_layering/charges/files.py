# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is charged for the pages of files, tmpfs included: opens them and maps them into a window, many at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Protocol

from cgroup_layering.charges.look import Looker, Sums
from cgroup_layering.charges.model import FileCharges, FileId
from cgroup_layering.charges.openfile import Opened, Opener, UnreadableFile, close_all, open_regular, require_regular
from cgroup_layering.charges.pieces import AFTER_PAGES, Pieces
from cgroup_layering.charges.shortcut import AT_ONCE, Shortcut
from cgroup_layering.closing import Closing
from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.kernel.file_walk import PIECE_PAGES
from cgroup_layering.kernel.mman import cached_pages
from cgroup_layering.kernel.pfnfile import PAGE_SIZE
from cgroup_layering.kernel.residency import WINDOW_PAGES

__all__ = ["Attributor", "FileCharges", "FileId", "Openable", "UnreadableFile", "file_charges"]

OPEN_AT_ONCE = 64  # twice as many descriptors, of the 1024 that a process may have
# More mappings at a time cost more each: the kernel then finds none of its objects for them in a cache.
FILES_AT_ONCE = 512
# Files larger than this are asked how much of a stretch is cached before the stretch is mapped.
STRETCH_PAGES = (1 << 30) // PAGE_SIZE


class Openable(Protocol):
    """Something that knows how to open its file, such as service_files.ServiceFile."""

    @property
    def path(self) -> Path: ...

    def open(self) -> int: ...


OnError = Callable[[CgroupLayeringError], object] | None
Target = str | Path | int | Openable


class Attributor(Closing):
    """Attributes the pages of many files, with one window and one set of open kernel files.

    Use it as a context manager. Raises KernelFileError or NotPrivileged if the kernel's files are missing
    or closed to the caller.
    """

    def __init__(
        self, *, count_mappings: bool = False, window_pages: int = WINDOW_PAGES, proc: Path = Path("/proc")
    ) -> None:
        self._count_mappings = count_mappings
        self._looker = Looker(count_mappings=count_mappings, window_pages=window_pages, proc=proc)
        self._window = self._looker.window
        self._opener = Opener()
        self._shortcut = Shortcut(allowed=not count_mappings and proc == Path("/proc"))
        self._pieces = Pieces(self._shortcut.walk)
        # what lies in the window: files, None for one that was given up, and the pages of each; of a large file that
        # began in an earlier window, which can only be the first, what was counted there; what the short way said of
        # the piece in the window
        self._files: list[Opened | None] = []
        self._mapped: list[int] = []
        self._earlier: Sums | None = None
        self._said: Sums | None = None
        self._all_resident = False
        self._turn = object()

    def close(self) -> None:
        """Close the kernel's files and give the window back."""
        self._shortcut.close()
        self._opener.close()
        self._looker.close()

    def charges(self, targets: Iterable[Target], on_error: OnError = None) -> Iterator[FileCharges]:
        """The charges of each target, in the order given, a few at a time.

        Targets are paths (a symbolic link is refused; strings are quickest), open descriptors (left open), or objects
        that open themselves. A file that can't be looked at is passed to `on_error` and left out; without it
        UnreadableFile is raised. One iteration at a time, as there is one window: raises RuntimeError if another one
        has begun meanwhile.
        """
        turn = self._turn = object()
        self._forget()
        try:
            for found in self._all(targets, on_error):
                yield from found
                if self._turn is not turn:
                    raise RuntimeError("another look at files has begun before this one was done")
        finally:
            if self._turn is turn:
                self._forget()

    def _all(self, targets: Iterable[Target], on_error: OnError) -> Iterator[list[FileCharges]]:
        remaining = iter(targets)
        while batch := list(islice(remaining, AT_ONCE if self._shortcut.is_proven else OPEN_AT_ONCE)):
            short = self._shortcut.look(batch)
            if not short:
                yield from self._long_way(batch, on_error)
            elif self._shortcut.is_proven:
                yield self._flush()  # what came before them
                yield from self._mixed(batch, short, on_error)
            else:
                yield self._flush()
                long = [charges for found in self._long_way(batch, on_error) for charges in found] + self._flush()
                self._shortcut.compare(short, long)
                yield long
        yield self._flush()

    def _mixed(
        self, batch: list[Target], short: list[FileCharges | None], on_error: OnError
    ) -> Iterator[list[FileCharges]]:
        """What the short way told, and the long way for the rest, in order."""
        at = 0
        for is_told, group in groupby(short, lambda charges: charges is not None):
            told = list(group)
            if is_told:
                yield [charges for charges in told if charges is not None]
            else:
                yield from self._long_way(batch[at : at + len(told)], on_error)
                yield self._flush()
            at += len(told)

    def _long_way(self, targets: list[Target], on_error: OnError) -> Iterator[list[FileCharges]]:
        for first in range(0, len(targets), OPEN_AT_ONCE):
            files, fds, borrowed = self._open(targets[first : first + OPEN_AT_ONCE], on_error)
            try:
                yield from self._map(files, fds, on_error)
            finally:
                close_all([fd for fd in fds if fd not in borrowed] if borrowed else fds)

    def _forget(self) -> None:
        self._window.reset()
        self._files, self._mapped, self._earlier, self._said, self._all_resident = [], [], None, None, False

    def _open(self, batch: list[Target], on_error: OnError) -> tuple[list[Opened], list[int], set[int]]:
        """What could be opened: files, their descriptors, and which of these are the caller's."""
        try:
            names = [os.fspath(target) for target in batch]  # type: ignore[arg-type] # the others raise TypeError
        except TypeError:
            names = []
        opened = self._opener.open(names)
        if names and opened is not None:
            return *opened, set()
        files: list[Opened] = []
        fds: list[int] = []
        borrowed: set[int] = set()
        for target in batch:
            try:
                file, fd = _open_one(target)
            except UnreadableFile as error:
                if on_error is None:
                    close_all([fd for fd in fds if fd not in borrowed])
                    raise
                on_error(error)
                continue
            files.append(file)
            fds.append(fd)
            if isinstance(target, int):
                borrowed.add(fd)
        return files, fds, borrowed

    def _map(self, files: list[Opened], fds: list[int], on_error: OnError) -> Iterator[list[FileCharges]]:
        """Map files into the window; look at it, empty it and go on whenever it is full."""
        sizes = [-(-file.size_bytes // PAGE_SIZE) for file in files]
        at = 0
        while at < len(files):
            end = at + self._window.map_files(fds[at:], sizes[at:])
            self._files += files[at:end]
            self._mapped += sizes[at:end]
            if end < len(files):
                try:
                    yield from self._map_in_pieces(files[end], fds[end], sizes[end])
                except OSError as error:
                    self._files[-1], self._said = None, None
                    failure = UnreadableFile(files[end].name, error.strerror or "unknown error")
                    if on_error is None:
                        raise failure from error
                    on_error(failure)
            at = end + 1
        if len(self._files) >= FILES_AT_ONCE:
            yield self._flush()

    def _map_in_pieces(self, file: Opened, fd: int, total: int) -> Iterator[list[FileCharges]]:
        if total >= AFTER_PAGES and self._files:  # so that its pieces are windows
            yield self._flush()
        self._files.append(file)
        self._mapped.append(0)
        done = 0
        with self._pieces.of(fd, total):
            while done < total:
                if total > STRETCH_PAGES and done % STRETCH_PAGES == 0:
                    stretch = min(STRETCH_PAGES, total - done)
                    if cached_pages(fd, done * PAGE_SIZE, stretch * PAGE_SIZE) == 0:
                        done += stretch
                        continue
                if not self._window.free:
                    yield self._flush(unfinished=True)
                count = min(total - done, self._window.free, STRETCH_PAGES - done % STRETCH_PAGES)
                if not (count == self._window.pages and self._is_told(fd, done)):
                    self._window.map(fd, done, count)
                    self._mapped[-1] += count
                done += count

    def _is_told(self, fd: int, first: int) -> bool:
        """Whether the pages of a whole window need not be mapped: what there is to say about them is known."""
        said = self._pieces.look(first) if self._window.pages == PIECE_PAGES else None
        if said is not None and self._pieces.is_proven:
            if self._earlier is not None:
                said.add(self._earlier)
            self._earlier = said
            return True
        # a quicker way than mincore to see that all or none is in memory
        cached = cached_pages(fd, first * PAGE_SIZE, self._window.pages * PAGE_SIZE)
        self._all_resident = cached == self._window.pages
        self._said = said if cached != 0 else None  # None: Linux before 6.5 can't tell
        return cached == 0

    def _flush(self, *, unfinished: bool = False) -> list[FileCharges]:
        """Look at everything in the window and empty it; out: the files, less the last if it is unfinished."""
        files, mapped, earlier, said = self._files, self._mapped, self._earlier, self._said
        self._files, self._mapped, self._earlier, self._said = [], [], None, None
        try:
            sums = self._looker.look(mapped, all_resident=self._all_resident)
        finally:
            self._all_resident = False
            self._window.reset()
        if said is not None:
            self._pieces.compare(said, sums[0])
        if earlier is not None:
            sums[0].add(earlier)
        if unfinished:
            self._files, self._mapped, self._earlier = [files.pop()], [0], sums.pop()
        counted = self._count_mappings
        make = tuple.__new__  # what FileCharges() comes to
        return [
            make(FileCharges, (*file, one.resident, one.owners, one.unmapped if counted else None, one.raced))
            for file, one in zip(files, sums, strict=True)
            if file is not None
        ]


def _open_one(target: Target) -> tuple[Opened, int]:
    if isinstance(target, int):
        name, fd = f"/proc/self/fd/{target}", target
    elif isinstance(target, str | Path):
        name, fd = os.fspath(target), open_regular(target)
    else:
        name, fd = os.fspath(target.path), target.open()
    try:
        status = os.fstat(fd)
        require_regular(name, status.st_mode)
    except (OSError, UnreadableFile) as error:
        if not isinstance(target, int):
            os.close(fd)
        if isinstance(error, OSError):
            raise UnreadableFile(name, error.strerror or "unknown error") from error
        raise
    return Opened(name, status.st_dev, status.st_ino, status.st_size), fd


def file_charges(target: Target, *, count_mappings: bool = False) -> FileCharges:
    """The charges of one file. In and out, and the errors raised: as Attributor.charges."""
    with Attributor(count_mappings=count_mappings) as attributor:
        return next(attributor.charges([target]))
