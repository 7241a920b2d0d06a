# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory-mapping system calls that Python's mmap module lacks: fixed addresses, mincore, populate.

Sources: mmap(2), madvise(2), mincore(2), process_vm_readv(2), cachestat in mm/filemap.c (Linux 6.5).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence

PROT_NONE = 0
PROT_READ = 1
MAP_SHARED = 0x01
MAP_PRIVATE = 0x02
MAP_FIXED = 0x10
MAP_ANONYMOUS = 0x20
MAP_NORESERVE = 0x4000
MADV_RANDOM = 1
MADV_POPULATE_READ = 22
MAP_FAILED = ctypes.c_void_p(-1).value
IOV_MAX = 1024
_SYS_CACHESTAT = 451  # the same on every architecture

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
)  # fmt: skip
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
_libc.process_vm_readv.restype = ctypes.c_ssize_t
_libc.process_vm_readv.argtypes = (
    ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong,
)  # fmt: skip
_libc.syscall.restype = ctypes.c_long


class _CachestatRange(ctypes.Structure):
    _fields_ = (("off", ctypes.c_uint64), ("len", ctypes.c_uint64))


class _Cachestat(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("nr_cache", "nr_dirty", "nr_writeback", "nr_evicted", "nr_recently_evicted")
    )


def _fail() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def mmap(address: int | None, length: int, protection: int, flags: int, fd: int, offset: int) -> int:
    """Map; out: the address. Raises OSError."""
    result = _libc.mmap(address, length, protection, flags, fd, offset)
    if result == MAP_FAILED or result is None:
        raise _fail()
    return int(result)


def map_files(address: int, end: int, fds: Sequence[int], lengths: Sequence[int]) -> tuple[int, int]:
    """Map the first `lengths` bytes (whole pages) of files read-only and shared, one behind another from `address` on.

    Out: how many were mapped, and the address behind them. Stops before the first that would go beyond `end` or
    can't be mapped. One loop here, because a Python call more for each of many small files is felt.
    """
    call = _libc.mmap
    protection, flags, start = ctypes.c_int(PROT_READ), ctypes.c_int(MAP_SHARED | MAP_FIXED), ctypes.c_int64(0)
    done = 0
    for fd, length in zip(fds, lengths, strict=True):
        if length:
            behind = address + length
            if behind > end or call(address, length, protection, flags, fd, start) != address:
                break
            address = behind
        done += 1
    return done, address


def munmap(address: int, length: int) -> None:
    """Unmap. Raises OSError."""
    if _libc.munmap(address, length) != 0:
        raise _fail()


def madvise(address: int, length: int, advice: int) -> int:
    """Give advice; out: 0 or the error number (callers tell many of them apart)."""
    return 0 if _libc.madvise(address, length, advice) == 0 else ctypes.get_errno()


def mincore(address: int, length: int, vector: int) -> None:
    """Write one byte per page to the memory at `vector`; bit 0 says resident. Raises OSError."""
    while _libc.mincore(address, length, vector) != 0:
        if ctypes.get_errno() != errno.EAGAIN:
            raise _fail()


def touch(vectors: int, count: int, sink: int) -> int:
    """Read through the kernel what `count` struct iovec at `vectors` name, in this process, into `sink`.

    Unlike a plain read of memory this ends with an error, not with SIGBUS, when a file shrinks meanwhile.
    Out: bytes read, 0 if the first could not be read. `sink` must hold a struct iovec of the same length.
    """
    got = _libc.process_vm_readv(os.getpid(), sink, 1, vectors, count, 0)
    if got < 0:
        if ctypes.get_errno() == errno.EFAULT:
            return 0
        raise _fail()
    return int(got)


def cached_pages(fd: int, offset: int, length: int) -> int | None:
    """How many pages of `length` bytes from `offset` are in the page cache; None where cachestat is missing.

    Counts without mapping anything, and skips what is not cached in one step. Length 0 means to the end.
    """
    extent = _CachestatRange(offset, length)
    found = _Cachestat()
    if _libc.syscall(_SYS_CACHESTAT, fd, ctypes.byref(extent), ctypes.byref(found), 0) != 0:
        return None
    return int(found.nr_cache)
