#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in the guest, as a service: makes files of every kind, and keeps those open that have no name.

holder.py FOLDER LIST: the files go to FOLDER (on a disk), /dev/shm and a tmpfs with huge pages at /mnt/huge;
their names go to LIST as JSON when all is in place: {kind: [path, resident pages that must be charged here]}.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
from pathlib import Path

PAGE = mmap.PAGESIZE
MIB = 1 << 20


def main(folder: Path, listing: Path) -> None:
    """Make everything, say so, wait."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, tuple[str, int]] = {}

    def made(kind: str, path: Path | str, pages: int) -> None:
        found[kind] = (str(path), pages)

    data = folder / "data"
    data.write_bytes(os.urandom(4 * MIB + 123))
    made("disk", data, (4 * MIB + 123 + PAGE - 1) // PAGE)

    log = folder / "log"
    with log.open("ab") as file:
        for _ in range(500):
            file.write(b"a line of a log\n" * 40)
            file.flush()
    made("log", log, (500 * 640 + PAGE - 1) // PAGE)

    shm = Path("/dev/shm/charges")
    shm.write_bytes(bytes([1]) * 3 * MIB)
    made("shm", shm, 3 * MIB // PAGE)

    huge = Path("/mnt/huge/file")
    huge.write_bytes(bytes([1]) * 8 * MIB)
    made("huge", huge, 8 * MIB // PAGE)

    sparse = folder / "sparse"
    with sparse.open("wb") as file:
        for place in (0, 5 << 30, 9 << 30):  # beyond 4 GiB
            file.seek(place)
            file.write(bytes([1]) * 10 * PAGE)
    made("sparse", sparse, 30)

    holes = folder / "holes"
    holes.write_bytes(bytes([1]) * 256 * PAGE)
    fd = os.open(holes, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for page in range(0, 256, 4):
        os.pread(fd, 1, page * PAGE)
    made("holes", holes, 64)

    memfd = os.memfd_create("charges")
    os.write(memfd, bytes([1]) * 2 * MIB)
    made("memfd", f"/proc/{os.getpid()}/fd/{memfd}", 2 * MIB // PAGE)

    gone = folder / "gone"
    gone.write_bytes(bytes([1]) * MIB)
    deleted = os.open(gone, os.O_RDONLY)
    gone.unlink()
    made("deleted", f"/proc/{os.getpid()}/fd/{deleted}", MIB // PAGE)

    mapped = mmap.mmap(os.open(data, os.O_RDONLY), MIB, prot=mmap.PROT_READ)
    for place in range(0, MIB, PAGE):
        mapped[place]
    listing.write_text(json.dumps({"pid": os.getpid(), "mapped": MIB // PAGE, "files": found}))
    signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
