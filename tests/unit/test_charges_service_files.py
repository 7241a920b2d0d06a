# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files of a service, from a /proc of our own making."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cgroup_layering.charges.openfile import UnreadableFile
from cgroup_layering.charges.processes import MappedFiles, Misses, all_pids, mapped_elsewhere
from cgroup_layering.charges.service_files import Use, service_files


class Proc:
    """Processes with links as the kernel makes them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def process(self, pid: int, executable: Path | None = None) -> None:
        folder = self.root / str(pid)
        for name in ("fd", "map_files"):
            (folder / name).mkdir(parents=True)
        (folder / "maps").write_text("7fff0000-7fff1000 rw-p 00000000 00:00 0  [stack]\n")
        if executable:
            (folder / "exe").symlink_to(executable)

    def map(self, pid: int, file: Path, address: int = 0x5000, device: str = "08:01") -> None:
        folder = self.root / str(pid)
        inode, end = file.stat().st_ino, address + 4096
        (folder / "map_files" / f"{address:x}-{end:x}").symlink_to(file)
        with (folder / "maps").open("a") as maps:
            maps.write(f"{address:08x}-{end:08x} r--p 00000000 {device} {inode}   {file}\n")

    def open(self, pid: int, number: int, target: Path | str) -> None:
        (self.root / str(pid) / "fd" / str(number)).symlink_to(target)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path / "proc")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("program", "library", "log", "other"):
        (folder / name).write_text(name * 10)
    return folder


def test_each_file_once_with_all_its_uses(proc: Proc, files: Path) -> None:
    for pid in (7, 8):
        proc.process(pid, files / "program")
        proc.map(pid, files / "program")
        proc.map(pid, files / "library", 0x8000)
        proc.map(pid, files / "library", 0xA000)
        proc.open(pid, 3, files / "log")
        proc.open(pid, 4, "/dev/null")
        proc.open(pid, 5, "socket:[123]")
    found = service_files([7, 8], proc=proc.root)
    assert {file.path.name: set(file.uses) for file in found.files} == {
        "program": {Use.EXECUTABLE, Use.MAPPED},
        "library": {Use.MAPPED},
        "log": {Use.OPEN},
    }
    log = next(file for file in found.files if file.path.name == "log")
    assert (log.device, log.inode, log.size_bytes) == (
        (files / "log").stat().st_dev, (files / "log").stat().st_ino, 30,
    )  # fmt: skip
    assert not log.deleted
    assert found.unreadable == ()


def test_folders_are_walked_without_following_links(proc: Proc, files: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "deep").mkdir(parents=True)
    (state / "deep/data").write_text("x")
    (state / "loop").symlink_to(state)
    (state / "outside").symlink_to(files / "other")
    os.link(files / "log", state / "log")
    os.mkfifo(state / "fifo")
    proc.process(7)
    proc.open(7, 3, files / "log")
    found = service_files([7], [state, tmp_path / "absent"], proc=proc.root)
    assert [(file.path, set(file.uses)) for file in found.files] == [
        (state / "deep/data", {Use.DIRECTORY}),
        (state / "log", {Use.DIRECTORY, Use.OPEN}),
    ]
    assert found.vanished >= 1


def test_processes_that_vanish_are_counted(proc: Proc, files: Path) -> None:
    proc.process(7)
    proc.map(7, files / "log")
    (proc.root / "7/map_files/5000-6000").unlink()
    proc.open(7, 3, files / "gone")
    found = service_files([7, 99], proc=proc.root)
    assert found.files == ()
    # of 7: the executable, the mapping, the descriptor; of 99: executable, maps, descriptors
    assert found.vanished == 6


def test_a_lookup_that_failed_is_tried_again_for_the_next_process(proc: Proc, files: Path) -> None:
    for pid in (7, 8):
        proc.process(pid)
        proc.map(pid, files / "library")
    (proc.root / "7/map_files/5000-6000").unlink()
    mapped = MappedFiles(Misses(), proc.root)
    assert list(mapped.of(7)) == []
    assert [file.name for file in mapped.of(8)] == [str(files / "library")]


def test_a_deleted_file_is_opened_through_its_process(proc: Proc, tmp_path: Path) -> None:
    # the kernel's link says `NAME (deleted)` and still leads to the file
    gone = tmp_path / "tmp (deleted)"
    gone.write_text("data")
    proc.process(7)
    proc.open(7, 3, gone)
    (file,) = service_files([7], proc=proc.root).files
    assert (file.path, file.deleted) == (tmp_path / "tmp", True)
    fd = file.open()
    assert os.read(fd, 10) == b"data"
    os.close(fd)


def test_another_file_in_its_place_is_noticed(proc: Proc, files: Path) -> None:
    proc.process(7)
    proc.open(7, 3, files / "log")
    (file,) = service_files([7], proc=proc.root).files
    (proc.root / "7/fd/3").unlink()  # the descriptor now leads elsewhere
    proc.open(7, 3, files / "other")
    with pytest.raises(UnreadableFile, match="another file has taken its place"):
        file.open()


def test_another_file_under_its_name_is_noticed(files: Path) -> None:
    log = next(file for file in service_files([], [files]).files if file.path.name == "log")
    replacement = files / "new"
    replacement.write_text("new")
    replacement.rename(log.path)
    with pytest.raises(UnreadableFile, match="another file has taken its place"):
        log.open()


def test_mapped_elsewhere_leaves_out_own_processes(proc: Proc, files: Path) -> None:
    for pid in (7, 8, 9):
        proc.process(pid)
    proc.map(7, files / "program")
    proc.map(7, files / "library", 0x8000)
    proc.map(8, files / "library")
    proc.map(9, files / "other")
    (proc.root / "self").symlink_to("7")
    assert all_pids(proc.root) == [7, 8, 9]
    names = {(path.stat().st_dev, path.stat().st_ino): path.name for path in files.iterdir()}
    assert {names[file] for file in mapped_elsewhere([7], proc.root)} == {"library", "other"}
    assert {names[file] for file in mapped_elsewhere([8, 9], proc.root)} == {"library", "program"}
    assert mapped_elsewhere([7, 8, 9], proc.root) == frozenset()


def test_a_closed_process_is_listed_not_fatal(proc: Proc, files: Path) -> None:
    proc.process(7)
    (proc.root / "7/maps").unlink()
    (proc.root / "7/maps").mkdir()
    found = service_files([7], proc=proc.root)
    assert found.unreadable == (f"{proc.root}/7/maps: Is a directory",)
