# SPDX-License-Identifier: LGPL-2.1-or-later
"""Residency of real files: what is seen, and that looking brings nothing in.

Run on the running kernel: mincore and madvise need neither root nor cgroup v2 for files of one's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_layering.kernel import mman
from cgroup_layering.kernel.pfnfile import PAGE_SIZE
from cgroup_layering.kernel.residency import Window, runs


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """A file of 64 pages on a disk, written out."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(64 * PAGE_SIZE))
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    yield fd
    os.close(fd)


def evict(fd: int, first: int = 0, pages: int = 0) -> None:
    os.posix_fadvise(fd, first * PAGE_SIZE, pages * PAGE_SIZE, os.POSIX_FADV_DONTNEED)


def mapped_pages(window: Window) -> int:
    """How many pages of the window's first mapping have a page frame, as the kernel counts them."""
    mapping = Path("/proc/self/smaps").read_text().split(f"{window._base:x}-", 1)[1]
    size = next(line for line in mapping.splitlines() if line.startswith("Rss:"))
    return int(size.split()[1]) * 1024 // PAGE_SIZE


def test_a_cached_file_is_resident_and_an_evicted_one_is_not(fd: int) -> None:
    with Window() as window:
        window.map(fd, 0, 64)
        assert window.resident().all()
        window.reset()
        evict(fd)
        window.map(fd, 0, 64)
        assert not window.resident().any()


def test_populating_what_is_resident_brings_nothing_else_in(fd: int) -> None:
    evict(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for page in (3, 4, 40):
        os.pread(fd, 1, page * PAGE_SIZE)
    with Window() as window:
        window.map(fd, 0, 64)
        before = window.resident()
        assert np.flatnonzero(before).tolist() == [3, 4, 40]
        assert window.populate(before) == 0
        assert (window.resident() == before).all()


def test_pages_that_had_to_be_read_are_counted(fd: int) -> None:
    evict(fd)
    with Window() as window:
        window.map(fd, 0, 64)
        assert window.populate(np.arange(64) == 7) > 0
        assert window.resident()[7]


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_file_that_shrank_is_no_error(tmp_path: Path, by_hand: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(8 * PAGE_SIZE))
    fd = os.open(path, os.O_RDWR)
    with Window() as window:
        window._can_populate = not by_hand
        window.map(fd, 0, 8)
        os.ftruncate(fd, 2 * PAGE_SIZE)
        window.populate(np.ones(8, dtype=np.bool_))
        assert mapped_pages(window) == 2
    os.close(fd)


def test_kernels_without_populate_are_touched_page_by_page(fd: int, tmp_path: Path) -> None:
    with Window() as window:
        window._can_populate = False
        window.map(fd, 0, 64)
        window.populate(np.ones(64, dtype=np.bool_))
        assert mapped_pages(window) == 64


def test_populating_around_leaves_nothing_to_do_for_a_file_in_memory(fd: int) -> None:
    with Window() as window:
        window.map(fd, 0, 64)
        window.populate_around()
        assert mapped_pages(window) == 64


def test_populating_around_is_no_error_where_the_file_shrank(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(64 * PAGE_SIZE))
    fd = os.open(path, os.O_RDWR)
    with Window() as window:
        window.map(fd, 0, 64)
        os.ftruncate(fd, 20 * PAGE_SIZE)
        window.populate_around()
        assert mapped_pages(window) <= 20
    os.close(fd)


def test_several_files_lie_one_behind_another(fd: int, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(bytes(3 * PAGE_SIZE))
    with other.open("rb") as file, Window(pages=16) as window:
        evict(fd)
        assert window.map(fd, 8, 4) == 0
        assert window.map(file.fileno(), 0, 3) == 4
        assert window.free == 9
        assert np.flatnonzero(window.resident()).tolist() == [4, 5, 6]


def test_a_full_window_takes_no_more(fd: int) -> None:
    with Window(pages=8) as window:
        window.map(fd, 0, 8)
        with pytest.raises(ValueError, match="1 pages do not fit into the 0 free ones"):
            window.map(fd, 8, 1)
        window.reset()
        assert window.map(fd, 8, 1) == 0


def test_what_cannot_be_mapped_is_an_os_error(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with Window() as window, pytest.raises(OSError, match="No such device"):
        window.map(fd, 0, 1)
    os.close(fd)


def test_cachestat_agrees_with_mincore_where_there_is_one(fd: int) -> None:
    found = mman.cached_pages(fd, 0, 64 * PAGE_SIZE)
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    assert found == 64 if release >= (6, 5) else found is None


def test_cachestat_of_no_file_is_none() -> None:
    assert mman.cached_pages(-1, 0, 0) is None


@given(st.lists(st.booleans(), max_size=50))
def test_runs_cover_exactly_what_is_true(mask: list[bool]) -> None:
    pairs = runs(np.array(mask, dtype=np.bool_))
    assert [number for first, last in pairs for number in range(first, last)] == [
        number for number, flag in enumerate(mask) if flag
    ]
    assert all(last < after for (_, last), (after, _) in pairwise(pairs))
