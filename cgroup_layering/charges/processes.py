# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which files processes have mapped and open, from /proc/PID.

Sources: proc_pid_maps(5), proc_pid_map_files(5), proc_pid_fd(5). Processes and their files come and go while
they are looked at: what vanished is counted, never fatal.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cgroup_layering.charges.model import FileId

PROC = Path("/proc")


@dataclass
class Misses:
    """What could not be seen, counted while looking."""

    vanished: int = 0
    """Processes and files that were gone when it was their turn."""
    unreadable: list[str] = field(default_factory=list)
    """One sentence part each: the path and the reason."""

    def note(self, path: Path | str, error: OSError) -> None:
        """Count one failure."""
        if isinstance(error, FileNotFoundError | ProcessLookupError):
            self.vanished += 1
        else:
            self.unreadable.append(f"{path}: {error.strerror}")


@dataclass(frozen=True)
class ProcessFile:
    """A regular file that a process uses: a link in /proc that leads to it, and what the link says."""

    link: Path
    name: str
    """The path as the process sees it, with ` (deleted)` behind it if the name is gone."""
    status: os.stat_result

    @property
    def id(self) -> FileId:
        """Device and inode number."""
        return FileId(self.status.st_dev, self.status.st_ino)


def all_pids(proc: Path = PROC) -> list[int]:
    """Every process there is now, in ascending order."""
    with os.scandir(proc) as entries:
        return sorted(int(entry.name) for entry in entries if entry.name.isdigit())


class MappedFiles:
    """Reads the mappings of processes; a file that several map, or one maps often, is looked up once."""

    def __init__(self, misses: Misses, proc: Path = PROC) -> None:
        self._misses = misses
        self._proc = proc
        self._known: dict[tuple[bytes, bytes], ProcessFile] = {}

    def of(self, pid: int) -> Iterator[ProcessFile]:
        """The regular files that a process has mapped, each once."""
        try:
            text = (self._proc / str(pid) / "maps").read_bytes()
        except OSError as error:
            self._misses.note(f"{self._proc}/{pid}/maps", error)
            return
        seen: set[tuple[bytes, bytes]] = set()
        for line in text.splitlines():
            # start-end perms offset major:minor inode path
            fields = line.split(maxsplit=5)
            if len(fields) < 5 or fields[4] == b"0":
                continue
            key = (fields[3], fields[4])
            if key in seen:
                continue
            seen.add(key)
            file = self._known.get(key) or self._look_up(pid, fields[0].decode())
            if file is not None:
                self._known[key] = file
                yield file

    def _look_up(self, pid: int, addresses: str) -> ProcessFile | None:
        # map_files names addresses without leading zeros, maps pads them to eight digits
        start, _, end = addresses.partition("-")
        link = self._proc / str(pid) / "map_files" / f"{int(start, 16):x}-{int(end, 16):x}"
        return _regular(link, self._misses)


def _regular(link: Path, misses: Misses) -> ProcessFile | None:
    try:
        status = link.stat()
        if not stat.S_ISREG(status.st_mode):
            return None
        return ProcessFile(link, str(link.readlink()), status)
    except OSError as error:
        misses.note(link, error)
        return None


def open_files(pid: int, misses: Misses, proc: Path = PROC) -> Iterator[ProcessFile]:
    """The regular files that a process has open, once per descriptor."""
    folder = proc / str(pid) / "fd"
    try:
        with os.scandir(folder) as entries:
            links = [folder / entry.name for entry in entries]
    except OSError as error:
        misses.note(folder, error)
        return
    for link in links:
        if (file := _regular(link, misses)) is not None:
            yield file


def executable(pid: int, misses: Misses, proc: Path = PROC) -> ProcessFile | None:
    """The program that a process runs; None for kernel threads and processes that are gone."""
    return _regular(proc / str(pid) / "exe", misses)


def working_directory(pid: int, proc: Path = PROC) -> Path | None:
    """Where a process works; None if it is gone, closed to the caller, or works in a folder that is gone."""
    try:
        folder = (proc / str(pid) / "cwd").readlink()
    except OSError:
        return None
    return None if str(folder).endswith(" (deleted)") else folder


def mount_namespace(pid: int | str, proc: Path = PROC) -> str:
    """The name of a process's mount namespace; empty if it is gone or closed to the caller."""
    try:
        return str((proc / str(pid) / "ns/mnt").readlink())
    except OSError:
        return ""


def mapped_elsewhere(own_pids: Iterable[int], proc: Path = PROC) -> frozenset[FileId]:
    """The files that any process other than these has mapped, this one not counted either.

    Processes that vanish meanwhile, or are closed to the caller, add nothing.
    """
    mapped = MappedFiles(Misses(), proc)
    others = set(all_pids(proc)) - set(own_pids) - {os.getpid()}
    return frozenset(file.id for pid in others for file in mapped.of(pid))
