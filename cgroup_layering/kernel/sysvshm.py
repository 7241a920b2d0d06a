# SPDX-License-Identifier: LGPL-2.1-or-later
"""System V shared memory that no process has attached: no name in any file system leads to it.

Sources: shmat(2), proc_sysvipc(5).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SHM_RDONLY = 0o10000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmat.restype = ctypes.c_void_p
_libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_libc.shmdt.argtypes = (ctypes.c_void_p,)
_FAILED = ctypes.c_void_p(-1).value


@dataclass(frozen=True)
class Segment:
    """A segment: its id, sizes in bytes, how many processes have it attached, and its creator's process id."""

    id: int
    size_bytes: int
    resident_bytes: int
    attached: int
    creator: int


def segments(proc: Path = Path("/proc")) -> list[Segment]:
    """All segments of this IPC namespace; none where the kernel has no System V IPC."""
    try:
        lines = (proc / "sysvipc/shm").read_text().splitlines()
    except OSError:
        return []
    if not lines:
        return []
    names = lines[0].split()
    found = []
    for line in lines[1:]:
        row = dict(zip(names, line.split(), strict=False))
        found.append(
            Segment(int(row["shmid"]), int(row["size"]), int(row["rss"]), int(row["nattch"]), int(row["cpid"]))
        )
    return found


@contextmanager
def opened(segment: Segment) -> Iterator[int]:
    """A descriptor for the memory of a segment; it is attached read-only for a moment. Raises OSError."""
    address = _libc.shmat(segment.id, None, _SHM_RDONLY)
    if address is None or address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    try:
        fd = os.open(_link(address), os.O_RDONLY | os.O_CLOEXEC)
    finally:
        _libc.shmdt(address)
    try:
        yield fd
    finally:
        os.close(fd)


def _link(address: int) -> Path:
    prefix = f"{address:x}-"
    folder = Path("/proc/self/map_files")
    for name in os.listdir(folder):
        if name.startswith(prefix):
            return folder / name
    raise OSError(2, os.strerror(2))
