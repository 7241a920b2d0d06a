# SPDX-License-Identifier: LGPL-2.1-or-later
"""Opening many files at once: as safe as one at a time, and nothing stays open."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgroup_layering.charges.openfile import Opener, close_all, open_regular


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    names = [str(tmp_path / f"file{number}") for number in range(5)]
    for number, name in enumerate(names):
        Path(name).write_bytes(bytes(number))
    return names


@pytest.fixture
def opener() -> Iterator[Opener]:
    with Opener() as opener:
        yield opener


def test_files_are_opened_in_order_and_told_apart(opener: Opener, files: list[str]) -> None:
    before = descriptors()
    opened = opener.open(files)
    assert opened is not None
    found, fds = opened
    assert [(one.name, one.size_bytes) for one in found] == [(name, size) for size, name in enumerate(files)]
    for one, fd in zip(found, fds, strict=True):
        status = os.fstat(fd)
        assert (one.device, one.inode) == (status.st_dev, status.st_ino)
        assert not os.get_inheritable(fd)
    close_all(fds)
    assert descriptors() == before


def test_one_that_is_no_file_stops_all_and_nothing_is_opened(opener: Opener, files: list[str], tmp_path: Path) -> None:
    fifo, link, folder = tmp_path / "fifo", tmp_path / "link", tmp_path / "folder"
    os.mkfifo(fifo)
    link.symlink_to(files[0])
    folder.mkdir()
    before = descriptors()
    for bad in (str(fifo), str(link), str(folder), str(tmp_path / "absent"), "/dev/null"):
        assert opener.open([*files, bad]) is None
        assert opener.open([bad, *files]) is None
    assert descriptors() == before


def test_a_fifo_that_takes_a_files_place_is_never_opened(
    opener: Opener, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is swapped after the kind was looked up: what is opened is still the file."""
    fstat = os.fstat

    def swap_behind_it(fd: int) -> os.stat_result:
        status = fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_size == 3:
            Path(files[3]).unlink()
            os.mkfifo(files[3])
        return status

    monkeypatch.setattr(os, "fstat", swap_behind_it)
    opened = opener.open(files)
    monkeypatch.undo()
    assert opened is not None
    assert stat.S_ISFIFO(Path(files[3]).stat().st_mode)
    assert [os.fstat(fd).st_size for fd in opened[1]] == [0, 1, 2, 3, 4]
    close_all(opened[1])


def test_the_access_time_stays(opener: Opener, files: list[str]) -> None:
    os.utime(files[4], (1, 2))
    opened = opener.open(files)
    assert opened is not None
    os.read(opened[1][4], 4)
    close_all(opened[1])
    assert Path(files[4]).stat().st_atime == 1


def test_a_child_opens_its_own(opener: Opener, files: list[str]) -> None:
    """/proc/self/fd, once open, is the parent's: descriptors of the same number are other files there."""
    others = [open_regular(files[0]) for _ in range(8)]
    child = os.fork()
    if child == 0:
        close_all(others)
        opened = opener.open(files)
        os._exit(opened is None or [os.fstat(fd).st_size for fd in opened[1]] != [0, 1, 2, 3, 4])
    assert os.waitpid(child, 0)[1] == 0
    close_all(others)


def test_closing_spares_what_lies_between(files: list[str]) -> None:
    before = descriptors()
    fds = [open_regular(files[0]) for _ in range(7)]
    kept = {fds[2], fds[5]}
    close_all([fd for fd in reversed(fds) if fd not in kept])
    assert descriptors() == before | {str(fd) for fd in kept}
    close_all(sorted(kept))
    close_all([])
    assert descriptors() == before


def test_without_descriptors_to_spare_none_stay_open(opener: Opener, files: list[str]) -> None:
    before = descriptors()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    unused = [number for number in range(1000) if str(number) not in before]
    resource.setrlimit(resource.RLIMIT_NOFILE, (unused[7], limits[1]))  # seven can be had, ten are needed
    try:
        assert opener.open(files) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert descriptors() == before
