#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in the guest: many files of all kinds, looked at inside the kernel and page by page, as JSON.

many.py FOLDER WORDS...: makes the files in FOLDER on a disk and on /dev/shm; WORDS run a command in another cgroup.
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
FILES = 640
APPEND = "import os, sys\nfor name in sys.argv[1:]:\n    with open(name, 'ab') as file: file.write(os.urandom(12288))"


def make(folder: Path) -> list[str]:
    """From no page to more than fit into two levels of the page cache's tree; holes, parts evicted."""
    folder.mkdir(parents=True)
    names = []
    for number in range(FILES):
        path = folder / f"file{number:03}"
        names.append(str(path))
        with path.open("wb") as file:
            if number % 5 == 1:
                file.seek((number % 70) * PAGE)  # a hole
            if number % 40 == 8:
                file.write(os.urandom(number * 1000))
                file.seek(number * 20 * PAGE)
            if number % 5:
                file.write(os.urandom(number % 90 * 1000 + 1))
            file.flush()
            os.fsync(file.fileno())
            if number % 7 == 0:
                os.posix_fadvise(file.fileno(), 0, 4 * PAGE, os.POSIX_FADV_DONTNEED)
    return names


def main(folder: Path, elsewhere: list[str]) -> None:
    """Print both answers, and whether the short way was taken."""
    shm = Path("/dev/shm") / folder.name
    try:
        names = make(folder) + make(shm)
        subprocess.run([*elsewhere, sys.executable, "-c", APPEND, *names[::3]], check=True)
        os.sync()
        with Attributor() as attributor:
            short = [list(one) for one in attributor.charges(names)]
            proven = attributor._shortcut.is_proven
        with Attributor(count_mappings=True) as attributor:  # which only the long way can
            long = [[*one[:6], None, one[7]] for one in attributor.charges(names)]
        print(json.dumps({"proven": proven, "short": short, "long": long}))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(shm, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
