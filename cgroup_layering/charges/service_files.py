# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files of a service: what its processes run, map and have open, and what lies in its folders."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cgroup_layering.charges.model import FileId
from cgroup_layering.charges.openfile import UnreadableFile, open_regular
from cgroup_layering.charges.processes import (
    PROC,
    MappedFiles,
    Misses,
    ProcessFile,
    executable,
    mapped_elsewhere,
    open_files,
)
from cgroup_layering.charges.trees import walk

__all__ = ["ServiceFile", "ServiceFiles", "Use", "mapped_elsewhere", "service_files"]

_DELETED = " (deleted)"


class Use(StrEnum):
    """How a service uses a file."""

    EXECUTABLE = "executable"
    MAPPED = "mapped"
    OPEN = "open"
    DIRECTORY = "directory"
    TMPFS = "tmpfs"
    """On a tmpfs of its own, or on one of the host's and charged to it."""


@dataclass(frozen=True)
class ServiceFile:
    """A regular file of a service."""

    path: Path
    """Its name, as the process that uses it sees it."""
    device: int
    inode: int
    size_bytes: int
    uses: frozenset[Use]
    deleted: bool
    """Whether the name is gone; the file is then reachable through the process alone."""
    access: Path
    """Where to open it: its path, or a link in /proc."""

    @property
    def id(self) -> FileId:
        """Device and inode number."""
        return FileId(self.device, self.inode)

    def open(self) -> int:
        """Open it for looking at its pages; out: a descriptor, which the caller closes.

        Raises UnreadableFile, also if another file has taken its place meanwhile.
        """
        fd = open_regular(self.access, follow=self.access != self.path)
        status = os.fstat(fd)
        if FileId(status.st_dev, status.st_ino) != self.id:
            os.close(fd)
            raise UnreadableFile(self.path, "another file has taken its place meanwhile")
        return fd


@dataclass(frozen=True)
class ServiceFiles:
    """The files of a service, each once, and what could not be seen."""

    files: tuple[ServiceFile, ...]
    vanished: int
    """Processes and files that were gone when it was their turn."""
    unreadable: tuple[str, ...]


class _Collection:
    """Files by identity; what is learnt later about the same file adds to it."""

    def __init__(self) -> None:
        self.files: dict[FileId, ServiceFile] = {}

    def add(self, path: Path, access: Path, status: os.stat_result, use: Use, deleted: bool) -> None:
        identity = FileId(status.st_dev, status.st_ino)
        known = self.files.get(identity)
        uses = frozenset({use}) | (known.uses if known else frozenset())
        if known:  # the first way to reach it stays, unless its name was gone and this one is not
            keep = known if not known.deleted or deleted else None
            if keep:
                path, access, deleted = keep.path, keep.access, keep.deleted
        self.files[identity] = ServiceFile(path, status.st_dev, status.st_ino, status.st_size, uses, deleted, access)

    def add_used(self, file: ProcessFile, use: Use) -> None:
        deleted = file.name.endswith(_DELETED)
        self.add(Path(file.name.removesuffix(_DELETED)), file.link, file.status, use, deleted)


def service_files(
    pids: Iterable[int],
    directories: Iterable[Path] = (),
    proc: Path = PROC,
    private: Iterable[tuple[Path, Path]] = (),
) -> ServiceFiles:
    """Every regular file that these processes run, map or have open, or that lies below these folders.

    In: process ids (cgroup.procs), folders (a service's StateDirectory= and the like; a missing one counts
    as vanished), and its private tmpfs mounts: where it sees them, and where we do. Out: each file once, by device
    and inode number, sorted by path. Takes root rights, or the processes' own user's; what is closed to the caller
    is listed as unreadable.
    """
    misses = Misses()
    found = _Collection()
    # folders first: their names are reachable whatever happens to a process
    for folder in directories:
        for path, status in walk(folder, misses):
            found.add(path, path, status, Use.DIRECTORY, deleted=False)
    for shown, access in private:
        for path, status in walk(access, misses):
            found.add(shown / path.relative_to(access), path, status, Use.TMPFS, deleted=False)
    mapped = MappedFiles(misses, proc)
    for pid in pids:
        if (program := executable(pid, misses, proc)) is not None:
            found.add_used(program, Use.EXECUTABLE)
        for file in mapped.of(pid):
            found.add_used(file, Use.MAPPED)
        for file in open_files(pid, misses, proc):
            found.add_used(file, Use.OPEN)
    ordered = sorted(found.files.values(), key=lambda file: (str(file.path), file.device, file.inode))
    return ServiceFiles(tuple(ordered), misses.vanished, tuple(misses.unreadable))
