#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is charged for the pages of files: a second reader, independent of the package, to check it against.

Runs in the guest with nothing but Python's standard library, as root. One page at a time: obvious, not fast.
Sources: mincore(2), Documentation/admin-guide/mm/pagemap.rst in the kernel's tree.

    pagereader.py [--json] [--unmapped-only] PATH...    per file: resident pages by owner
    pagereader.py --host                                all page frames: pages by owner
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import mmap
import os
import struct
import sys
from pathlib import Path
from typing import Any

PAGE = mmap.PAGESIZE
PIECE = 1024  # pages looked at in one go
COMPOUND_TAIL = 1 << 16
PRESENT = 1 << 63
PFN = (1 << 55) - 1
CGROUP_ROOT = "/sys/fs/cgroup"

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def word(fd: int, index: int) -> int:
    """The index-th 64-bit word of a file, 0 behind its end."""
    data = os.pread(fd, 8, index * 8)
    return int(struct.unpack("=Q", data)[0]) if len(data) == 8 else 0


class Reader:
    """The kernel's page files, and the cgroups by inode number."""

    def __init__(self) -> None:
        self.pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
        self.cgroup = os.open("/proc/kpagecgroup", os.O_RDONLY)
        self.flags = os.open("/proc/kpageflags", os.O_RDONLY)
        self.count = os.open("/proc/kpagecount", os.O_RDONLY)
        self.names: dict[int, str] = {}
        self.name_cgroups()

    def name_cgroups(self) -> None:
        """Learn which cgroups there are now."""
        self.names.clear()
        for folder, _, _ in os.walk(CGROUP_ROOT):
            with contextlib.suppress(FileNotFoundError):  # it has gone meanwhile
                self.names[Path(folder).stat().st_ino] = folder[len(CGROUP_ROOT) :] or "/"

    def owner(self, pfn: int) -> str:
        """The cgroup that a page frame is charged to; a tail is charged as its head is."""
        while True:
            inode = word(self.cgroup, pfn)
            if inode:
                return self.names.get(inode, f"inode {inode}")
            if not word(self.flags, pfn) & COMPOUND_TAIL:
                return "none"
            pfn -= 1

    def file(self, path: str, unmapped_only: bool) -> dict[str, Any]:
        """Resident pages of one file by owner."""
        size = Path(path).stat().st_size
        result: dict[str, Any] = {
            "path": path, "size": size, "resident": 0, "mapped_by_others": 0, "owners": {},
        }  # fmt: skip
        fd = os.open(path, os.O_RDONLY)
        try:
            pages = (size + PAGE - 1) // PAGE
            for first in range(0, pages, PIECE):
                self.piece(fd, first, min(PIECE, pages - first), unmapped_only, result)
        finally:
            os.close(fd)
        return result

    def piece(self, fd: int, first: int, count: int, unmapped_only: bool, result: dict[str, Any]) -> None:
        """Add the pages from `first` on to the result."""
        address = libc.mmap(None, count * PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, first * PAGE)
        if address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            libc.madvise(address, count * PAGE, mmap.MADV_RANDOM)  # no readahead
            vector = ctypes.create_string_buffer(count)
            if libc.mincore(address, count * PAGE, vector) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            for number in range(count):
                if not vector.raw[number] & 1:
                    continue
                result["resident"] += 1
                ctypes.c_ubyte.from_address(address + number * PAGE).value  # noqa: B018 - the read maps it
                entry = word(self.pagemap, address // PAGE + number)
                if not entry & PRESENT or not entry & PFN:
                    raise SystemExit(f"{sys.argv[0]}: no page frame number: this needs root (CAP_SYS_ADMIN).")
                pfn = entry & PFN
                shared = word(self.count, pfn) > 1  # one of them is this mapping
                result["mapped_by_others"] += shared
                if not (shared and unmapped_only):
                    name = self.owner(pfn)
                    result["owners"][name] = result["owners"].get(name, 0) + 1
        finally:
            libc.munmap(address, count * PAGE)

    def host(self) -> dict[str, int]:
        """All charged page frames by owner."""
        owners: dict[int, int] = {}
        pfn = head_inode = 0
        while data := os.pread(self.cgroup, 8 * PIECE, 8 * pfn):
            flags = os.pread(self.flags, len(data), 8 * pfn)
            for (inode,), (flag,) in zip(struct.iter_unpack("=Q", data), struct.iter_unpack("=Q", flags), strict=True):
                if not flag & COMPOUND_TAIL:
                    head_inode = inode
                charged = inode or (head_inode if flag & COMPOUND_TAIL else 0)
                if charged:
                    owners[charged] = owners.get(charged, 0) + 1
            pfn += len(data) // 8
        return {self.names.get(inode, f"inode {inode}"): pages for inode, pages in owners.items()}


def main() -> int:
    """Print one line per owner, or JSON: a list of {path, size, resident, mapped_by_others, owners}.

    For the host always JSON: {owner: pages}.
    """
    parser = argparse.ArgumentParser(description="Who is charged for the pages of files.")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument("--unmapped-only", action="store_true", help="leave out what other processes map")
    parser.add_argument("--host", action="store_true", help="look at all page frames, not at files")
    parser.add_argument("path", nargs="*")
    options = parser.parse_args()
    if bool(options.path) == options.host:
        parser.error("either files or --host")
    reader = Reader()
    if options.host:
        print(json.dumps(reader.host()))
        return 0
    files = [reader.file(path, options.unmapped_only) for path in options.path]
    if options.json:
        print(json.dumps(files))
        return 0
    for file in files:
        print(f"{file['path']}: {file['resident']} resident, {file['mapped_by_others']} mapped by others")
        for name, pages in sorted(file["owners"].items(), key=lambda item: -item[1]):
            print(f"  {pages:8} {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
