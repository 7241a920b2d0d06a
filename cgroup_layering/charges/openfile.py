# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opening a file to look at its pages, without any effect on it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from cgroup_layering.errors import CgroupLayeringError

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


class UnreadableFile(CgroupLayeringError):
    """A file whose pages can't be looked at."""

    def __init__(self, path: Path | str, reason: str, hint: str = "") -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"Cannot look at the pages of {self.path}: {self.reason}."


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
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        raise UnreadableFile(path, error.strerror or "unknown error") from error
    try:
        require_regular(path, os.fstat(handle).st_mode)
        return _reopen(path, handle)
    finally:
        os.close(handle)


def _reopen(path: Path | str, handle: int) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # O_NONBLOCK: a file lease must not hold us up
    link = f"/proc/self/fd/{handle}"
    try:
        try:
            return os.open(link, flags | os.O_NOATIME)
        except PermissionError as error:
            if error.errno != errno.EPERM:
                raise
            return os.open(link, flags)  # not the owner of the file and without CAP_FOWNER
    except OSError as error:
        raise UnreadableFile(path, error.strerror or "unknown error") from error
