# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opening a file to look at its pages, without any effect on it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cgroup_layering.closing import Closing
from cgroup_layering.errors import CgroupLayeringError, KernelFileError

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFDIR: "a directory",
    stat.S_IFSOCK: "a socket",
}
_HINTS = {
    stat.S_IFLNK: "Name the file that it points to.",
    stat.S_IFDIR: "Name the files in it.",
}


_KIND = 0o170000  # S_IFMT
_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a file lease must not hold us up; O_NOATIME: looking leaves no trace
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOATIME


class UnreadableFile(CgroupLayeringError):
    """A file whose pages can't be looked at."""

    def __init__(self, path: Path | str, reason: str, hint: str = "") -> None:
        super().__init__(path, reason)
        self.path = Path(path)
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"Cannot look at the pages of {self.path}: {self.reason}."


class Opened(NamedTuple):
    """An open regular file, by the name it was opened with."""

    name: str
    device: int
    inode: int
    size_bytes: int


def require_regular(path: Path | str, mode: int) -> None:
    """Raises UnreadableFile if the mode of `path` is not that of a regular file."""
    if not stat.S_ISREG(mode):
        kind = stat.S_IFMT(mode)
        what = _KINDS.get(kind, "something else")
        raise UnreadableFile(path, f"it is {what}, not a regular file", _HINTS.get(kind, ""))


def open_regular(path: Path | str, *, follow: bool = False) -> int:
    """Open a regular file read-only; out: a descriptor, which the caller closes.

    The kind is looked up before the open, through a descriptor that has no effect (O_PATH), because opening a
    device or a FIFO can do something. A symbolic link as the last component is refused unless `follow`, which
    is for the links in /proc/PID. The access time stays as it is where the kernel lets us (O_NOATIME).
    Raises UnreadableFile.
    """
    try:
        handle = os.open(path, _HANDLE & ~os.O_NOFOLLOW if follow else _HANDLE)
    except OSError as error:
        raise UnreadableFile(path, error.strerror or "unknown error") from error
    try:
        require_regular(path, os.fstat(handle).st_mode)
        return _reopen(path, handle)
    finally:
        os.close(handle)


def _reopen(path: Path | str, handle: int) -> int:
    link = f"/proc/self/fd/{handle}"
    try:
        try:
            return os.open(link, _READ)
        except PermissionError as error:
            if error.errno != errno.EPERM:
                raise
            return os.open(link, _READ & ~os.O_NOATIME)  # not the owner of the file and without CAP_FOWNER
    except OSError as error:
        raise UnreadableFile(path, error.strerror or "unknown error") from error


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors, which must be different ones, with one call for each row of neighbours."""
    ordered = sorted(fds)
    first = 0
    for place in range(1, len(ordered) + 1):
        if place == len(ordered) or ordered[place] != ordered[place - 1] + 1:
            os.closerange(ordered[first], ordered[place - 1] + 1)
            first = place


def open_handles(paths: Sequence[str]) -> list[int]:
    """Handles (O_PATH) of all of these files, whatever they are, or of none; the caller closes them with close_all."""
    handles: list[int] = []
    open_ = os.open
    try:
        for path in paths:
            handles.append(open_(path, _HANDLE))
    except (OSError, ValueError):  # ValueError: a null character
        close_all(handles)
        return []
    except BaseException:
        close_all(handles)
        raise
    return handles


class Opener(Closing):
    """Opens many regular files, each as open_regular does, with fewer system calls. Use it as a context manager.

    Raises KernelFileError without /proc/self/fd.
    """

    def __init__(self) -> None:
        self._own = Path("/proc/self/fd")
        self._pid = -1
        self._links = -1
        self._look_up()

    def _look_up(self) -> None:
        """An open /proc/self/fd stays that of the process that opened it: a child needs its own."""
        if self._pid != os.getpid():
            self.close()
            try:
                self._links = os.open(self._own, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise KernelFileError(self._own, error.strerror or "unknown error") from error
            self._pid = os.getpid()

    def close(self) -> None:
        """Close the folder of links."""
        if self._links >= 0:
            os.close(self._links)
            self._links = -1

    def open(self, paths: Sequence[str]) -> tuple[list[Opened], list[int]] | None:
        """Open all of `paths`, or none: None if open_regular has something to say about one of them.

        Out: what they are, and their descriptors, which the caller closes with close_all.
        """
        self._look_up()
        handles: list[int] = []
        fds: list[int] = []
        files: list[Opened] = []
        links, regular = self._links, stat.S_IFREG
        open_, fstat = os.open, os.fstat
        try:
            for path in paths:
                handles.append(open_(path, _HANDLE))
            for path, handle in zip(paths, handles, strict=True):
                status = fstat(handle)
                if status.st_mode & _KIND != regular:
                    raise UnreadableFile(path, "it is not a regular file")
                files.append(Opened(path, status.st_dev, status.st_ino, status.st_size))
            for handle in handles:
                fds.append(open_(str(handle), _READ, dir_fd=links))
        except (OSError, UnreadableFile):
            close_all(fds)
            return None
        except BaseException:
            close_all(fds)
            raise
        finally:
            close_all(handles)
        return files, fds
