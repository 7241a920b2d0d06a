# SPDX-License-Identifier: LGPL-2.1-or-later
"""Be told of changes in folders: inotify(7), which Python has no module for.

A folder that is not there yet is waited for in the nearest one above it that is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cgroup_layering.errors import KernelFileError

# include/uapi/linux/inotify.h
_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _IGNORED, _ONLYDIR = 0x400, 0x800, 0x8000, 0x01000000
_CHANGES = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
_COMING = _MOVED_TO | _CREATE | _ONLYDIR
_HEAD = struct.Struct("iIII")
_BUFFER = 64 << 10


class Change(NamedTuple):
    """A name that came, went or was written in a folder; without a name the folder itself, or too much to tell."""

    folder: Path | None
    name: str


class Inotify:
    """One inotify instance. Raises KernelFileError where there is none to be had."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            raise KernelFileError(Path("/proc/sys/fs/inotify/max_user_instances"), os.strerror(ctypes.get_errno()))
        self._folders: dict[int, Path] = {}
        self._awaited: dict[Path, set[str]] = {}
        """Folders watched only for names to come."""

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return int(self._descriptor)

    def watch(self, folders: Iterable[Path]) -> None:
        """Watch these folders; again is allowed, and finds those that have come since. Raises KernelFileError."""
        missing = [folder for folder in folders if not self._add(folder, _CHANGES)]
        known = set(self._folders.values()) - set(self._awaited)
        self._awaited = {}
        for folder in missing:
            name = folder
            while name.parent != name:
                name, above = name.parent, name.name
                if name in known or self._add(name, _COMING):
                    self._awaited.setdefault(name, set()).add(above)
                    break
        for folder in known & set(self._awaited):
            del self._awaited[folder]

    def read(self) -> list[Change]:
        """What has changed since the last time; nothing if nothing has."""
        try:
            data = os.read(self._descriptor, _BUFFER)
        except BlockingIOError:
            return []
        found, position = [], 0
        while position < len(data):
            watch, mask, _cookie, length = _HEAD.unpack_from(data, position)
            position += _HEAD.size
            name = os.fsdecode(data[position : position + length].rstrip(b"\0"))
            position += length
            folder = self._folders.get(watch)
            if mask & _IGNORED:
                self._folders.pop(watch, None)
                continue
            if folder in self._awaited and name and name not in self._awaited[folder]:
                continue
            found.append(Change(folder, name))
        return found

    def _add(self, folder: Path, mask: int) -> bool:
        watch = self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), mask)
        if watch >= 0:
            self._folders[watch] = folder
            return True
        number = ctypes.get_errno()
        if number in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise KernelFileError(folder, os.strerror(number))
