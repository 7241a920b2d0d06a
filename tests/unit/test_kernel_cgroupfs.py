# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each file of cgroupfs, read well and read badly."""

from __future__ import annotations

from pathlib import Path

import pytest

from cgroup_layering.errors import HostUnsuitable, KernelFileError
from cgroup_layering.kernel.cgroupfs import CgroupFS

HELLO = "/system.slice/hello.service"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    for name in ("system.slice/hello.service/worker", "init.scope"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def cgroups(root: Path) -> CgroupFS:
    return CgroupFS(root)


def put(root: Path, name: str, text: str) -> None:
    (root / "system.slice/hello.service" / name).write_text(text)


def test_a_folder_without_controllers_is_no_hierarchy(tmp_path: Path) -> None:
    with pytest.raises(HostUnsuitable, match=str(tmp_path)):
        CgroupFS(tmp_path)


def test_a_missing_root_is_no_hierarchy(tmp_path: Path) -> None:
    with pytest.raises(HostUnsuitable, match="not a cgroup v2 hierarchy"):
        CgroupFS(tmp_path / "absent")


def test_exists(cgroups: CgroupFS) -> None:
    assert cgroups.exists(HELLO)
    assert cgroups.exists("/") and cgroups.exists("")
    assert not cgroups.exists("/system.slice/other.service")


def test_inode_is_the_folders(cgroups: CgroupFS, root: Path) -> None:
    assert cgroups.inode(HELLO) == (root / "system.slice/hello.service").stat().st_ino


def test_inode_of_a_missing_cgroup_names_it(cgroups: CgroupFS) -> None:
    with pytest.raises(KernelFileError, match=r"other\.service: No such file"):
        cgroups.inode("/system.slice/other.service")


@pytest.mark.parametrize("path", ["/../etc", "/system.slice/../..", "/./x"])
def test_a_path_that_leaves_the_root_is_refused(cgroups: CgroupFS, path: str) -> None:
    with pytest.raises(ValueError, match="is not the path of a cgroup"):
        cgroups.directory(path)


@pytest.mark.parametrize(("text", "value"), [("4096\n", 4096), ("0\n", 0), ("max\n", None)])
def test_read_int(cgroups: CgroupFS, root: Path, text: str, value: int | None) -> None:
    put(root, "memory.max", text)
    assert cgroups.read_int(HELLO, "memory.max") == value


def test_read_int_of_words_names_file_and_text(cgroups: CgroupFS, root: Path) -> None:
    put(root, "memory.max", "lots\n")
    with pytest.raises(KernelFileError, match=r"memory\.max, line 'lots': a number or `max` was expected"):
        cgroups.read_int(HELLO, "memory.max")


def test_read_text_keeps_inner_lines(cgroups: CgroupFS, root: Path) -> None:
    put(root, "io.max", "8:0 rbps=1\n8:16 rbps=2\n")
    assert cgroups.read_text(HELLO, "io.max") == "8:0 rbps=1\n8:16 rbps=2"


def test_read_text_of_a_missing_file_names_it(cgroups: CgroupFS) -> None:
    with pytest.raises(KernelFileError, match=r"hello\.service/io\.max: No such file"):
        cgroups.read_text(HELLO, "io.max")


def test_stat(cgroups: CgroupFS, root: Path) -> None:
    put(root, "memory.stat", "anon 8192\nfile 67108864\nshmem 33554432\nvmalloc 16777216\n")
    assert cgroups.stat(HELLO)["vmalloc"] == 16 << 20


def test_stat_with_a_broken_line_names_it(cgroups: CgroupFS, root: Path) -> None:
    put(root, "memory.stat", "anon 8192\nfile\n")
    with pytest.raises(KernelFileError, match=r"memory\.stat, line 'file'"):
        cgroups.stat(HELLO)


def test_events(cgroups: CgroupFS, root: Path) -> None:
    put(root, "cgroup.events", "populated 1\nfrozen 0\n")
    assert cgroups.events(HELLO) == {"populated": 1, "frozen": 0}


def test_cgroup_stat(cgroups: CgroupFS, root: Path) -> None:
    put(root, "cgroup.stat", "nr_descendants 1\nnr_dying_descendants 7\n")
    assert cgroups.cgroup_stat(HELLO)["nr_dying_descendants"] == 7


def test_controllers(cgroups: CgroupFS, root: Path) -> None:
    put(root, "cgroup.controllers", "memory pids\n")
    put(root, "cgroup.subtree_control", "\n")
    assert cgroups.controllers(HELLO) == {"memory", "pids"}
    assert cgroups.subtree_control(HELLO) == frozenset()


def test_procs_are_unique_and_sorted_without_foreign_ones(cgroups: CgroupFS, root: Path) -> None:
    put(root, "cgroup.procs", "812\n0\n77\n812\n")
    assert cgroups.procs(HELLO) == [77, 812]


def test_procs_with_words_in_it(cgroups: CgroupFS, root: Path) -> None:
    put(root, "cgroup.procs", "812\nx\n")
    with pytest.raises(KernelFileError, match="process ids were expected"):
        cgroups.procs(HELLO)


def test_procs_recursive(cgroups: CgroupFS, root: Path) -> None:
    put(root, "cgroup.procs", "812\n")
    put(root, "worker/cgroup.procs", "5\n")
    assert cgroups.procs_recursive(HELLO) == [5, 812]


def test_procs_recursive_does_not_hide_an_unreadable_file(cgroups: CgroupFS, root: Path) -> None:
    put(root, "cgroup.procs", "812\n")
    with pytest.raises(KernelFileError, match=r"worker/cgroup\.procs"):
        cgroups.procs_recursive(HELLO)


def test_children_are_folders_only(cgroups: CgroupFS) -> None:
    assert cgroups.children("/") == ["/init.scope", "/system.slice"]
    assert cgroups.children("/system.slice/") == [HELLO]
    assert cgroups.children(HELLO + "/worker") == []


def test_children_of_a_missing_cgroup(cgroups: CgroupFS) -> None:
    with pytest.raises(KernelFileError, match="absent"):
        cgroups.children("/absent")


def test_walk_goes_parents_first(cgroups: CgroupFS, root: Path) -> None:
    found = list(cgroups.walk())
    assert [entry.path for entry in found] == ["/", "/init.scope", "/system.slice", HELLO, HELLO + "/worker"]
    assert all(entry.inode == cgroups.inode(entry.path) for entry in found)


def test_walk_passes_over_what_vanishes(cgroups: CgroupFS, root: Path) -> None:
    paths = []
    for entry in cgroups.walk("/system.slice"):
        paths.append(entry.path)
        if entry.path == "/system.slice":
            (root / "system.slice/hello.service/worker").rmdir()
            (root / "system.slice/hello.service").rmdir()
    assert paths == ["/system.slice"] or paths == ["/system.slice", HELLO]


def test_walk_from_a_missing_cgroup(cgroups: CgroupFS) -> None:
    with pytest.raises(KernelFileError, match="absent"):
        list(cgroups.walk("/absent"))


def test_services_of_all_slices_and_none_below_a_service(cgroups: CgroupFS, root: Path) -> None:
    for name in (
        "a.slice/a-b.slice/hello.service",
        "a.slice/_cgroup.x.service",
        "user.slice/user@0.service/app.slice/mine.service",
        "init.scope/odd.service",
    ):
        (root / name).mkdir(parents=True)
    (root / "system.slice/file.service").touch()
    found = cgroups.services()
    assert sorted(found.pop("hello.service")) == ["/a.slice/a-b.slice/hello.service", HELLO]
    assert found == {
        "cgroup.x.service": ["/a.slice/_cgroup.x.service"],
        "user@0.service": ["/user.slice/user@0.service"],
    }
