# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file on tmpfs is its pages, so it moves to another cgroup only as a copy that is renamed over the old one."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from cgroup_layering.charges.openfile import UnreadableFile, open_regular

PREFIX = ".cgroup-layering-"
CHUNK = 1 << 20


def recopy(path: Path, identity: tuple[int, int]) -> int:
    """Replace a file by a copy of itself; bytes copied. Raises OSError and UnreadableFile with the old file in place.

    In: device and inode number of the file that is meant. Owner, mode, times, extended attributes (ACLs too) and holes
    are kept. Files with several names are refused, as the others would keep the old pages. A crash leaves the old file
    or the new one, and at most a draft beside it whose name begins with PREFIX.
    """
    old = open_regular(path)
    try:
        status = os.fstat(old)
        if (status.st_dev, status.st_ino) != identity:
            raise UnreadableFile(path, "another file has taken its place meanwhile")
        if status.st_nlink != 1:
            raise UnreadableFile(path, f"it has {status.st_nlink} names, and the others would keep the old pages")
        folder = open_folder(path.parent, os.O_PATH)
        try:
            return _replace(path, old, status, folder)
        finally:
            os.close(folder)
    finally:
        os.close(old)


def open_folder(path: Path, how: int = os.O_RDONLY) -> int:
    """A descriptor for a folder, reached without following a symbolic link. Raises OSError."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open("/", flags | os.O_PATH)
    parts = path.parts[1:]
    for number, part in enumerate(parts, 1):
        try:
            inner = os.open(part, flags | (how if number == len(parts) else os.O_PATH), dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    return fd


def _replace(path: Path, old: int, status: os.stat_result, folder: int) -> int:
    draft = PREFIX + secrets.token_hex(8)
    new = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        copied = _copy(old, new, status.st_size)
        _dress(old, new, status)
        now = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
        same = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns", "st_nlink")
        if any(getattr(now, name) != getattr(status, name) for name in same):
            raise UnreadableFile(path, "it changed while it was copied")
        os.rename(draft, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(draft, dir_fd=folder)
        raise
    finally:
        os.close(new)
    return copied


def _copy(old: int, new: int, size: int) -> int:
    os.ftruncate(new, size)
    at = copied = 0
    while at < size:
        try:
            at = os.lseek(old, at, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            break
        end = os.lseek(old, at, os.SEEK_HOLE)
        while at < end:
            data = os.pread(old, min(CHUNK, end - at), at)
            if not data:
                return copied
            at += os.pwrite(new, data, at)
            copied += len(data)
    return copied


def _dress(old: int, new: int, status: os.stat_result) -> None:
    """Owner before mode, as chown takes the set-user-id bit away; times last."""
    os.fchown(new, status.st_uid, status.st_gid)
    os.fchmod(new, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(old):
        os.setxattr(new, name, os.getxattr(old, name))
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
