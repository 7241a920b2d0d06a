# SPDX-License-Identifier: LGPL-2.1-or-later
"""When the short ways through many files and large ones are taken, and what they leave to the long one.

The kernel's part is the VMs'.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cgroup_layering.charges import files, pieces, shortcut
from cgroup_layering.charges.files import Attributor
from cgroup_layering.charges.pieces import AFTER_PAGES, Pieces
from cgroup_layering.charges.shortcut import AFTER, TRIALS, Shortcut
from cgroup_layering.kernel.bpf import BpfUnavailable
from cgroup_layering.kernel.file_walk import PIECE_PAGES, RECORD, FileWalk
from cgroup_layering.kernel.pagemap import PRESENT
from cgroup_layering.kernel.pfnfile import PAGE_SIZE

COUNT = 1000
OWNER = 60
FRAMES = 2 * PIECE_PAGES
PIECES = 6  # of a large file, that are in memory


class Walk:
    """As the kernel would tell: every file has one page in memory; those whose number is a multiple are passed over.

    Of a large file all of the first pieces are in memory, and those in `over` are passed over.
    """

    def __init__(self, owner: int = OWNER, multiple: int = 0) -> None:
        self.owner = owner
        self.multiple = multiple
        self.looks = 0
        self.over: set[int] = set()
        self.pieces: list[int] = []

    def look(self, handles: Sequence[int]) -> Any:
        self.looks += 1
        rows = []
        for fd in handles:
            status = os.fstat(fd)
            device = os.major(status.st_dev) << 20 | os.minor(status.st_dev)
            over = bool(self.multiple) and status.st_ino % self.multiple == 0
            rows.append((fd, over, device, status.st_ino, status.st_size, self.owner, 0, 1, 0, 1, status.st_mode))
        return np.array(rows, dtype=RECORD)

    def piece(self, fd: int, first_page: int) -> Any:
        number = first_page // PIECE_PAGES
        self.pieces.append(number)
        os.lseek(fd, first_page * PAGE_SIZE + 1, os.SEEK_SET)
        pages = PIECE_PAGES if number < PIECES else 0
        row = (fd, number in self.over, 0, 0, 0, self.owner if pages else 0, 0, pages, 0, pages, 0)
        return np.array([row], dtype=RECORD)

    def close(self) -> None:
        pass


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    found = []
    for number in range(COUNT):
        path = tmp_path / f"file{number:04}"
        path.write_bytes(bytes(PAGE_SIZE))
        found.append(str(path))
    return found


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.write(bytes(PIECES * PIECE_PAGES * PAGE_SIZE))
        file.truncate(AFTER_PAGES * PAGE_SIZE)
    return path


@pytest.fixture
def attributor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Walk], Attributor]:
    """An attributor whose long way sees OWNER everywhere, and whose short way is the one given."""
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    for name in ("kpageflags", "kpagecount"):
        (proc / name).write_bytes(bytes(8 * FRAMES))
    np.full(FRAMES, OWNER, dtype=np.uint64).tofile(proc / "kpagecgroup")
    (proc / "self/pagemap").write_bytes(b"")

    def make(walk: Walk) -> Attributor:
        monkeypatch.setattr(shortcut, "FileWalk", lambda: walk)
        result = Attributor(proc=proc)
        result._shortcut = Shortcut(allowed=True)
        result._pieces = Pieces(result._shortcut.walk)
        with (proc / "self/pagemap").open("r+b") as file:
            file.seek(result._window._base // PAGE_SIZE * 8)
            file.write((np.arange(1, PIECE_PAGES + 1, dtype=np.uint64) | np.uint64(PRESENT)).tobytes())
        return result

    return make


def test_it_is_taken_once_it_said_the_same(names: list[str], attributor: Callable[[Walk], Attributor]) -> None:
    walk = Walk()
    with attributor(walk) as one:
        found = list(one.charges(names))
        assert one._shortcut.is_proven
    assert [charges.name for charges in found] == names
    assert {(charges.resident_pages, *charges.owners.items()) for charges in found} == {(1, (OWNER, 1))}
    stats = [Path(name).stat() for name in names]
    assert {charges.id for charges in found} == {(status.st_dev, status.st_ino) for status in stats}
    assert walk.looks == 1 + -(-(COUNT - AFTER - 64) // shortcut.AT_ONCE)


def test_it_is_not_believed_if_it_said_something_else(
    names: list[str], attributor: Callable[[Walk], Attributor]
) -> None:
    walk = Walk(owner=61)
    with attributor(walk) as one:
        assert {tuple(charges.owners) for charges in one.charges(names)} == {(OWNER,)}
        assert not one._shortcut.is_proven
    assert walk.looks == TRIALS


def test_what_it_passes_over_comes_from_the_long_way_in_order(
    names: list[str], attributor: Callable[[Walk], Attributor]
) -> None:
    missing = names[700]
    Path(missing).unlink()
    errors: list[Exception] = []
    with attributor(Walk(multiple=3)) as one:
        found = list(one.charges(names, on_error=errors.append))
        assert one._shortcut.is_proven
    assert [charges.name for charges in found] == [name for name in names if name != missing]
    assert {tuple(charges.owners.items()) for charges in found} == {((OWNER, 1),)}
    assert [str(error) for error in errors] == [f"Cannot look at the pages of {missing}: No such file or directory."]


def test_without_bpf_all_is_as_before(
    names: list[str], attributor: Callable[[Walk], Attributor], monkeypatch: pytest.MonkeyPatch
) -> None:
    with attributor(Walk()) as one:
        monkeypatch.setattr(shortcut, "FileWalk", _unavailable)
        found = list(one.charges(names))
        assert not one._shortcut.is_proven
    assert [charges.name for charges in found] == names


def _unavailable() -> Walk:
    raise BpfUnavailable("file_charges.bpf.load cannot be loaded: Operation not permitted")


@pytest.mark.parametrize("content", [None, b"", b"\x08\0\0\0", struct.pack("<II", 8, 8) + bytes(16)])
def test_a_program_that_is_missing_or_damaged_is_said_to_be(tmp_path: Path, content: bytes | None) -> None:
    """Instructions that are all zero are refused by the kernel, to root and to everybody else."""
    program = tmp_path / "program"
    if content is not None:
        program.write_bytes(content)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BpfUnavailable, match=r"program cannot be loaded: ."):
        FileWalk(program)
    assert len(os.listdir("/proc/self/fd")) == before


def test_few_files_and_other_targets_go_the_long_way(
    names: list[str], attributor: Callable[[Walk], Attributor]
) -> None:
    walk = Walk()
    with attributor(walk) as one:
        assert len(list(one.charges(names[:AFTER]))) == AFTER
        fd = os.open(names[0], os.O_RDONLY)
        assert len(list(one.charges([fd] * 10))) == 10
        os.close(fd)
    assert walk.looks == 0


@pytest.mark.parametrize("has_cachestat", [True, False], ids=["cachestat", "Linux before 6.5"])
def test_a_large_file_is_told_in_pieces_once_one_was_right(
    large: Path,
    names: list[str],
    attributor: Callable[[Walk], Attributor],
    monkeypatch: pytest.MonkeyPatch,
    has_cachestat: bool,
) -> None:
    walk = Walk()
    if not has_cachestat:
        monkeypatch.setattr(files, "cached_pages", lambda *_: None)
    with attributor(walk) as one, large.open("rb") as file:
        file.seek(77)
        found = list(one.charges([names[0], file.fileno()]))
        assert one._pieces.is_proven
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 77
    assert [charges.owners for charges in found] == [{OWNER: 1}, {OWNER: PIECES * PIECE_PAGES}]
    assert found[1].resident_pages == PIECES * PIECE_PAGES
    assert walk.pieces == list(range(AFTER_PAGES // PIECE_PAGES))


def test_pieces_that_it_passes_over_come_from_the_long_way(
    large: Path, attributor: Callable[[Walk], Attributor]
) -> None:
    walk = Walk()
    walk.over = {0, 2, 3}
    with attributor(walk) as one:
        (found,) = one.charges([large])
        assert one._pieces.is_proven
    assert (found.resident_pages, found.owners) == (PIECES * PIECE_PAGES, {OWNER: PIECES * PIECE_PAGES})


def test_pieces_are_not_believed_if_they_are_wrong(large: Path, attributor: Callable[[Walk], Attributor]) -> None:
    walk = Walk(owner=61)
    with attributor(walk) as one:
        (found,) = one.charges([large])
        assert not one._pieces.is_proven
    assert found.owners == {OWNER: PIECES * PIECE_PAGES}
    assert walk.pieces == list(range(pieces.TRIALS))


def test_a_file_that_is_not_so_large_goes_the_long_way(large: Path, attributor: Callable[[Walk], Attributor]) -> None:
    os.truncate(large, (AFTER_PAGES - 1) * PAGE_SIZE)
    walk = Walk()
    with attributor(walk) as one:
        (found,) = one.charges([large])
    assert (found.owners, walk.pieces) == ({OWNER: PIECES * PIECE_PAGES}, [])
