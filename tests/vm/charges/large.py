#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in the guest: large files, looked at inside the kernel piece by piece and page by page, as JSON.

large.py FOLDER WORDS...: makes one in FOLDER on a disk and two on tmpfs, one of which has huge pages; WORDS run a
command in another cgroup.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from cgroup_layering.charges.files import Attributor

PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20
WRITE = """import os, sys
for name in sys.argv[1:]:
    with open(name, 'r+b') as file:
        file.seek(90 << 20)
        for _ in range(21): file.write(os.urandom(1 << 20))"""


def make(path: Path) -> str:
    """The first third is in memory but for a hole and what was evicted, the rest a hole with a last page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for _ in range(50):
            file.write(os.urandom(MIB))
        file.seek(3 * PAGE + 1, os.SEEK_CUR)
        file.write(os.urandom(10 * MIB))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 20 * MIB + 5 * PAGE, 19 * MIB, os.POSIX_FADV_DONTNEED)
        file.seek(200 * MIB)
        file.write(b"end")
    return str(path)


def main(folder: Path, elsewhere: list[str]) -> None:
    """Print both answers, and whether the short way was taken."""
    shm, huge = Path("/dev/shm") / folder.name, folder / "huge"
    huge.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "huge=always,size=500M", "tmpfs", str(huge)], check=True)
    try:
        names = [make(top / "large") for top in (folder, shm, huge)]
        subprocess.run([*elsewhere, sys.executable, "-c", WRITE, *names], check=True)
        os.sync()
        found = []
        for name in names:
            with Attributor() as attributor:
                (short,) = attributor.charges([name])
                proven = attributor._pieces.is_proven
            with Attributor(count_mappings=True) as attributor:  # which only the long way can
                (long,) = attributor.charges([name])
            found.append({"proven": proven, "short": list(short), "long": [*long[:6], None, long[7]]})
        print(json.dumps(found))
    finally:
        subprocess.run(["umount", str(huge)], check=True)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(shm, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
