# SPDX-License-Identifier: LGPL-2.1-or-later
"""Attribution of files. Residency is the running kernel's; page frames and owners are files of our own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_layering.charges.files import Attributor, UnreadableFile
from cgroup_layering.charges.openfile import open_regular
from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.kernel.pagemap import PRESENT
from cgroup_layering.kernel.pfnfile import PAGE_SIZE

WINDOW = 16
FRAMES = 400
UNMAPPABLE = Path("/sys/kernel/uevent_seqnum")  # regular and a page long, says stat


class Host:
    """A /proc in which place n of the attributor's window is backed by page frame `frames[n]`."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        (proc / "self").mkdir(parents=True)
        self.pagemap = proc / "self/pagemap"
        self.pagemap.write_bytes(b"")
        for name in ("kpagecgroup", "kpageflags", "kpagecount"):
            (proc / name).write_bytes(bytes(8 * FRAMES))

    def set(self, name: str, values: dict[int, int]) -> None:
        words = np.fromfile(self.proc / name, dtype=np.uint64)
        for pfn, value in values.items():
            words[pfn] = value
        (self.proc / name).write_bytes(words.tobytes())

    def attributor(self, frames: list[int], *, count_mappings: bool = False) -> Attributor:
        result = Attributor(count_mappings=count_mappings, window_pages=WINDOW, proc=self.proc)
        words = np.array([pfn | PRESENT if pfn else 0 for pfn in frames], dtype=np.uint64)
        with self.pagemap.open("r+b") as file:
            file.seek(result._window._base // PAGE_SIZE * 8)
            file.write(words.tobytes())
        return result


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "proc")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "files"
    path.mkdir()
    yield path


def make(path: Path, pages: int) -> Path:
    path.write_bytes(bytes(pages * PAGE_SIZE))
    return path


def test_pages_by_owner(host: Host, folder: Path) -> None:
    host.set("kpagecgroup", {100: 60, 7: 60, 300: 61})
    with host.attributor([100, 7, 300, 301]) as attributor:
        (found,) = attributor.charges([make(folder / "a", 4)])
    assert found.owners == {60: 2, 61: 1, 0: 1}
    assert (found.resident_pages, found.charged_pages, found.raced_pages) == (4, 3, 0)
    assert found.size_bytes == 4 * PAGE_SIZE
    assert (found.pages_of({60}), found.pages_of({60, 61}), found.pages_of(set())) == (2, 3, 0)
    assert found.owners_unmapped is None and found.mapped_by_others is None
    with pytest.raises(ValueError, match="not counted"):
        found.pages_of({60}, unmapped_only=True)


def test_pages_that_others_map(host: Host, folder: Path) -> None:
    host.set("kpagecgroup", {1: 60, 2: 60, 3: 61})
    host.set("kpagecount", {1: 1, 2: 2, 3: 5})
    with host.attributor([1, 2, 3], count_mappings=True) as attributor:
        (found,) = attributor.charges([make(folder / "a", 3)])
    assert found.owners == {60: 2, 61: 1}
    assert found.owners_unmapped == {60: 1}
    assert found.mapped_by_others == 2
    assert found.pages_of({60}, unmapped_only=True) == 1


def test_tails_are_charged_as_their_head(host: Host, folder: Path) -> None:
    host.set("kpagecgroup", {64: 60})
    host.set("kpageflags", {64: 1 << 15, 65: 1 << 16, 66: 1 << 16, 67: 1 << 16})
    with host.attributor([65, 66, 64, 67, 68]) as attributor:
        (found,) = attributor.charges([make(folder / "a", 5)])
    assert found.owners == {60: 4, 0: 1}


def test_small_files_share_a_window_and_large_ones_take_several(host: Host, folder: Path) -> None:
    host.set("kpagecgroup", {number: 100 + number for number in range(1, WINDOW + 1)})
    frames = list(range(1, WINDOW + 1))
    sizes = [3, 0, 2, 2 * WINDOW + 5, 1, 0]
    files = [make(folder / str(number), pages) for number, pages in enumerate(sizes)]
    with host.attributor(frames) as attributor:
        found = list(attributor.charges(files))
    assert [one.path for one in found] == files
    assert [one.resident_pages for one in found] == sizes
    assert [one.charged_pages for one in found] == sizes
    assert found[0].owners == {101: 1, 102: 1, 103: 1}
    assert found[2].owners == {104: 1, 105: 1}
    # places 5..15 of the first window, all 16 of the second, 0..9 of the third
    assert found[3].owners == {100 + n: (n > 5) + 1 + (n <= 10) for n in range(1, WINDOW + 1)}
    assert found[4].owners == {111: 1}


def test_what_is_not_resident_is_not_brought_in(host: Host, folder: Path) -> None:
    path = make(folder / "a", 8)
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    os.pread(fd, 1, 2 * PAGE_SIZE)
    host.set("kpagecgroup", dict.fromkeys(range(1, 17), 60))
    with host.attributor(list(range(1, 17))) as attributor:
        first, second = attributor.charges([fd, path])
    assert first.owners == {60: 1}
    assert first.resident_pages == second.resident_pages == 1
    assert os.pread(fd, 1, 0) == b"\0"  # an open descriptor is left open
    os.close(fd)


def test_pages_that_went_or_moved_are_counted_and_not_attributed(
    host: Host, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.set("kpagecgroup", {1: 60, 2: 60, 3: 60, 9: 61})
    with host.attributor([1, 2, 0, 3]) as attributor:
        read = attributor._looker.pages.owners

        def move_meanwhile(pfns: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> object:
            with host.pagemap.open("r+b") as file:
                file.seek((attributor._window._base // PAGE_SIZE + 1) * 8)
                file.write(np.array([9 | PRESENT], dtype=np.uint64).tobytes())
            return read(pfns)

        monkeypatch.setattr(attributor._looker.pages, "owners", move_meanwhile)
        (found,) = attributor.charges([make(folder / "a", 4)])
    assert found.owners == {60: 2}
    assert found.resident_pages == 4
    assert found.raced_pages == 2


def test_a_page_that_moved_is_not_believed_where_all_have_one_owner(
    host: Host, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.set("kpagecgroup", {1: 60, 2: 60, 3: 60, 9: 61})
    with host.attributor([1, 2, 3]) as attributor:
        common = attributor._looker.pages.common_owner

        def move_meanwhile(pfns: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> int:
            owner = common(pfns)
            with host.pagemap.open("r+b") as file:
                file.seek((attributor._window._base // PAGE_SIZE + 1) * 8)
                file.write(np.array([9 | PRESENT], dtype=np.uint64).tobytes())
            return owner

        monkeypatch.setattr(attributor._looker.pages, "common_owner", move_meanwhile)
        (found,) = attributor.charges([make(folder / "a", 3)])
    # looked up once more, from the beginning: 1 and 3 stay, 2 is another page frame now, charged to another cgroup
    assert found.owners == {60: 2, 61: 1}
    assert (found.resident_pages, found.raced_pages) == (3, 0)


@given(
    st.lists(st.tuples(st.integers(1, FRAMES - 1), st.sampled_from([0, 60, 61])), min_size=1, max_size=WINDOW),
    st.lists(st.integers(0, 4), max_size=6),
)
def test_the_short_way_finds_what_the_long_one_finds(
    tmp_path_factory: pytest.TempPathFactory, frames: list[tuple[int, int]], sizes: list[int]
) -> None:
    """Whoever is charged, and wherever the page frames lie; counting mappings takes the long way."""
    folder = tmp_path_factory.mktemp("both-ways")
    host = Host(folder / "proc")
    host.set("kpagecgroup", dict(frames))
    files = [make(folder / str(number), pages) for number, pages in enumerate(sizes)]
    backing = ([pfn for pfn, _ in frames] * WINDOW)[:WINDOW]
    with host.attributor(backing) as attributor:
        short = [(one.owners, one.resident_pages, one.raced_pages) for one in attributor.charges(files)]
    with host.attributor(backing, count_mappings=True) as attributor:
        long = [(one.owners, one.resident_pages, one.raced_pages) for one in attributor.charges(files)]
    assert short == long
    assert sum(pages for _, pages, _ in short) == sum(sizes)


def test_each_kind_of_no_file_has_its_sentence(host: Host, folder: Path) -> None:
    make(folder / "file", 1)
    (folder / "link").symlink_to("file")
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    reasons = {
        folder / "link": "it is a symbolic link, not a regular file",
        folder / "fifo": "it is a FIFO, not a regular file",
        folder / "folder": "it is a directory, not a regular file",
        Path("/dev/null"): "it is a character device, not a regular file",
        folder / "absent": "No such file or directory",
        folder / "file/below": "Not a directory",
    }
    errors: list[CgroupLayeringError] = []
    with host.attributor([1]) as attributor:
        found = list(attributor.charges([*reasons, folder / "file"], errors.append))
        with pytest.raises(UnreadableFile):
            list(attributor.charges([folder / "fifo"]))
    assert [str(error) for error in errors] == [
        f"Cannot look at the pages of {path}: {reason}." for path, reason in reasons.items()
    ]
    assert [one.path for one in found] == [folder / "file"]


def test_a_file_that_cannot_be_mapped_does_not_spoil_the_others(host: Host, folder: Path) -> None:
    good = [make(folder / "a", 2), make(folder / "b", 2)]
    errors: list[CgroupLayeringError] = []
    with host.attributor([1, 2, 1, 2]) as attributor:
        found = list(attributor.charges([good[0], UNMAPPABLE, good[1]], errors.append))
    assert [(one.path, one.resident_pages) for one in found] == [(path, 2) for path in good]
    assert [str(error) for error in errors] == [f"Cannot look at the pages of {UNMAPPABLE}: No such device."]


def test_a_look_that_was_given_up_leaves_nothing_to_the_next(host: Host, folder: Path) -> None:
    host.set("kpagecgroup", dict.fromkeys(range(1, WINDOW + 1), 60))
    files = [str(make(folder / str(number), 5)) for number in range(6)]
    with host.attributor(list(range(1, WINDOW + 1))) as attributor:
        given_up = attributor.charges(files)
        assert next(given_up).owners == {60: 5}
        found = list(attributor.charges(files[:2]))
        assert [(one.name, one.owners) for one in found] == [(name, {60: 5}) for name in files[:2]]
        with pytest.raises(RuntimeError, match="another look"):
            list(given_up)


def test_a_closed_look_does_not_disturb_the_next(host: Host, folder: Path) -> None:
    host.set("kpagecgroup", dict.fromkeys(range(1, WINDOW + 1), 60))
    files = [str(make(folder / str(number), 5)) for number in range(8)]
    with host.attributor(list(range(1, WINDOW + 1))) as attributor:
        first = attributor.charges(files)
        next(first)
        second = attributor.charges(files)
        found = [next(second)]
        first.close()  # type: ignore[attr-defined]
        found += second
    assert [one.owners for one in found] == [{60: 5}] * 8


def test_opening_leaves_the_access_time_alone(folder: Path) -> None:
    path = make(folder / "a", 1)
    os.utime(path, (1, 2))
    fd = open_regular(path)
    os.read(fd, 10)
    os.close(fd)
    assert path.stat().st_atime == 1


def test_a_link_is_followed_where_it_was_asked_for(folder: Path) -> None:
    path = make(folder / "a", 1)
    (folder / "link").symlink_to("a")
    fd = open_regular(folder / "link", follow=True)
    assert os.fstat(fd).st_ino == path.stat().st_ino
    os.close(fd)
