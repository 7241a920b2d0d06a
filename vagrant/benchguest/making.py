# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is measured: files whose pages are in memory, and a tree of small ones."""

from __future__ import annotations

import os
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20
PER_FOLDER = 100
# Sizes as in a source tree: one to five pages, few of them full.
SIZES = (700, 3000, 4096, 5000, 9000, 12288, 20000)


def pages_in(size_bytes: int) -> int:
    """How many pages a file of this size has."""
    return -(-size_bytes // PAGE)


def make_file(path: Path, size_bytes: int) -> Path:
    """A file of random bytes, written out, with all of its pages in memory."""
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(size_bytes // MIB):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return path


def make_tree(top: Path, files: int) -> list[str]:
    """So many small files, a hundred to a folder, written out, with all of their pages in memory; their names."""
    block = os.urandom(max(SIZES))
    names = []
    for number in range(files):
        folder = top / f"{number // PER_FOLDER:03}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"file{number % PER_FOLDER:02}"
        path.write_bytes(block[: SIZES[number % len(SIZES)]])
        names.append(str(path))
    os.sync()
    return names


def tree_pages(first: int, behind: int) -> int:
    """How many pages these files of the tree have."""
    return sum(pages_in(SIZES[number % len(SIZES)]) for number in range(first, behind))
