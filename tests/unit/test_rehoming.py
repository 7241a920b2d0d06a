# SPDX-License-Identifier: LGPL-2.1-or-later
"""Eviction and refill of a real file's cache, and copies of real files on tmpfs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_layering.charges.openfile import UnreadableFile
from cgroup_layering.rehoming import tmpfs
from cgroup_layering.rehoming.cache import PAGE, Stretch, evict, pages, refill, resident, without
from cgroup_layering.rehoming.worker import ORDER, REPORT, WAITING, main

SHM = Path("/dev/shm")

NUMBERS = st.sets(st.integers(0, 60))


def stretches(numbers: set[int]) -> list[Stretch]:
    found: list[Stretch] = []
    for number in sorted(numbers):
        if found and sum(found[-1]) == number:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((number, 1))
    return found


def numbers(found: list[Stretch]) -> set[int]:
    return {number for first, count in found for number in range(first, first + count)}


@given(NUMBERS, NUMBERS)
def test_without_is_the_difference_of_sets(some: set[int], others: set[int]) -> None:
    assert numbers(without(stretches(some), stretches(others))) == some - others


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """A file of 40 pages, of which every fourth is in memory; skips where the file system keeps no such pages."""
    path = tmp_path / "data"
    path.write_bytes(os.urandom(40 * PAGE - 100))
    fd = os.open(path, os.O_RDONLY)
    evict(fd, path.stat().st_size)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for number in range(0, 40, 4):
        os.pread(fd, 1, number * PAGE)
    found = resident(fd, path.stat().st_size)
    os.close(fd)
    if found != [(number, 1) for number in range(0, 40, 4)]:
        pytest.skip("this file system has no page cache of its own")
    return path


def test_what_was_in_memory_goes_and_comes_back_and_no_more(cached: Path) -> None:
    fd = os.open(cached, os.O_RDONLY)
    size = cached.stat().st_size
    before = resident(fd, size)
    found = evict(fd, size)
    assert found.before == found.gone == before
    assert resident(fd, size) == []
    assert refill(fd, found.gone) == pages(before) * PAGE
    assert resident(fd, size) == before
    assert refill(fd, found.gone) == 0, "what is there is not read again"
    os.close(fd)


def test_a_file_that_shrank_is_read_to_its_end(cached: Path) -> None:
    fd = os.open(cached, os.O_RDWR)
    gone = evict(fd, cached.stat().st_size).gone
    os.ftruncate(fd, 5 * PAGE)
    assert refill(fd, gone) == 2 * PAGE
    os.close(fd)


def entry(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"path": str(path), "device": status.st_dev, "inode": status.st_ino}


def test_the_worker_does_all_it_can_and_reports_the_rest(cached: Path, tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.mkdir()
    other = {**entry(cached), "inode": 1}
    link = tmp_path / "link"
    link.symlink_to(cached)
    files = [
        entry(cached),
        other,
        {**entry(cached), "path": str(tmp_path / "none")},
        {**entry(cached), "path": str(link)},
    ]
    (box / ORDER).write_text(json.dumps({"wait_for": "", "wait_seconds": 0, "files": files, "tmpfs": []}))
    main(box)
    report = json.loads((box / REPORT).read_text())
    assert (report["resident_pages"], report["evicted_pages"], report["reread_bytes"]) == (10, 10, 10 * PAGE)
    assert report["vanished"] == 2, "replaced, or gone"
    assert len(report["problems"]) == 1 and "symbolic link" in report["problems"][0]
    assert (box / WAITING).exists()


def test_the_worker_does_not_wait_for_ever(tmp_path: Path) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.mkdir()
    (cgroup / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    order = {"wait_for": str(cgroup), "wait_seconds": 0.05, "files": [], "tmpfs": []}
    (tmp_path / ORDER).write_text(json.dumps(order))
    main(tmp_path)
    assert json.loads((tmp_path / REPORT).read_text())["stopped"] is False


def test_the_worker_imports_little() -> None:
    """It starts once per service, in a moment when that service may be down."""
    code = "import sys, cgroup_layering.rehoming.worker; print('\\n'.join(sys.modules))"
    names = set(
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    )
    assert not names & {"numpy", "gi", "pydbus", "rich", "click", "jinja2"}


@pytest.fixture
def shm() -> Iterator[Path]:
    with TemporaryDirectory(dir=SHM) as folder:
        yield Path(folder)


def facts(path: Path) -> tuple[object, ...]:
    status = path.stat()
    attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return (
        status.st_uid,
        status.st_gid,
        status.st_mode,
        status.st_mtime_ns,
        status.st_size,
        status.st_blocks,
        attributes,
    )


def test_a_copy_on_tmpfs_is_the_same_but_for_its_pages(shm: Path) -> None:
    path = shm / "state"
    with path.open("wb") as file:
        file.write(os.urandom(3 * PAGE))
        file.seek(50 * PAGE)
        file.write(b"end")
    path.chmod(0o4751)
    if os.geteuid() == 0:
        os.chown(path, 12, 34)
        path.chmod(0o6751)
        os.setxattr(path, "trusted.mark", b"x")
    os.utime(path, ns=(10**18, 10**18 + 7))
    before, data, inode = facts(path), path.read_bytes(), path.stat().st_ino
    assert tmpfs.recopy(path, (path.stat().st_dev, inode)) == 4 * PAGE - (PAGE - 3)
    assert facts(path) == before
    assert path.read_bytes() == data
    assert path.stat().st_ino != inode
    assert os.listdir(shm) == ["state"]


def test_files_that_must_stay_stay(shm: Path, tmp_path: Path) -> None:
    path = shm / "state"
    path.write_bytes(b"x")
    identity = (path.stat().st_dev, path.stat().st_ino)
    (shm / "link").symlink_to(path)
    (shm / "folder").symlink_to(shm)
    for wrong, who in (("link", identity), ("folder/state", identity), ("state", (identity[0], 1))):
        with pytest.raises((UnreadableFile, OSError)):
            tmpfs.recopy(shm / wrong, who)
    os.link(path, shm / "second")
    with pytest.raises(UnreadableFile, match="2 names"):
        tmpfs.recopy(path, identity)
    assert path.stat().st_ino == identity[1]
    assert sorted(os.listdir(shm)) == ["folder", "link", "second", "state"]


def test_a_file_that_changes_meanwhile_is_not_replaced(shm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shm / "state"
    path.write_bytes(b"old")
    copy = tmpfs._copy

    def slow(old: int, new: int, size: int) -> int:
        done = copy(old, new, size)
        path.write_bytes(b"new!")
        return done

    monkeypatch.setattr(tmpfs, "_copy", slow)
    with pytest.raises(UnreadableFile, match="changed"):
        tmpfs.recopy(path, (path.stat().st_dev, path.stat().st_ino))
    assert path.read_bytes() == b"new!"
    assert os.listdir(shm) == ["state"]
