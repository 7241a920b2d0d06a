# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rows of the host that add up, mounts, JSON that is written bit by bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_layering.charges.host import CgroupCharges, HostCharges, PageCounts, sum_subtrees
from cgroup_layering.charges.hostrows import Kind, host_rows
from cgroup_layering.charges.openfile import UnreadableFile
from cgroup_layering.charges.owners import unit_of
from cgroup_layering.charges.processes import Misses
from cgroup_layering.charges.trees import regular_files, walk
from cgroup_layering.kernel.mounts import parse_mounts
from cgroup_layering.output.stream import Document
from cgroup_layering.output.tables import JsonMode

LAYER = "/system.slice/system-a.service.slice"
PATHS = (
    "/", "/init.scope", "/system.slice", "/system.slice/b.service", "/system.slice/b.service/inner", LAYER,
    f"{LAYER}/a.service", "/user.slice", "/user.slice/user-0.slice", "/user.slice/user-0.slice/session-1.scope",
)  # fmt: skip


def charges(counts: list[int], gone: int) -> HostCharges:
    own = {path: PageCounts(file=count, anon=count // 2) for path, count in zip(PATHS, counts, strict=True)}
    subtree = sum_subtrees(own)
    rows = tuple(
        CgroupCharges(
            path=path,
            inode=number,
            unit=unit_of(path),
            own=own[path],
            subtree=subtree[path],
            memory_current_bytes=None if path == "/" else subtree[path].total * 4096 + 100,
            memory_swap_bytes=None,
            stat={"slab": subtree[path].file},
            dying=0,
        )
        for number, path in enumerate(PATHS, 1)
    )
    return HostCharges(10_000, rows, {99: PageCounts(other=gone)} if gone else {})


@given(st.lists(st.integers(0, 1000), min_size=len(PATHS), max_size=len(PATHS)), st.integers(0, 5))
def test_every_charged_page_is_in_one_row(counts: list[int], gone: int) -> None:
    found = host_rows(charges(counts, gone))
    assert sum(row.pages.total for row in found) == sum(count + count // 2 for count in counts) + gone
    assert len({row.cgroup for row in found}) == len(found)


def test_kinds_of_rows() -> None:
    found = {row.cgroup: row for row in host_rows(charges([10] * len(PATHS), 1))}
    assert {cgroup: row.kind for cgroup, row in found.items()} == {
        "/": Kind.SLICE,
        "/init.scope": Kind.UNIT,
        "/system.slice": Kind.SLICE,
        "/system.slice/b.service": Kind.UNIT,
        LAYER: Kind.LAYER,
        "/user.slice": Kind.SLICE,
        "/user.slice/user-0.slice": Kind.SLICE,
        "/user.slice/user-0.slice/session-1.scope": Kind.UNIT,
        "": Kind.GONE,
    }
    assert found[LAYER].service == "a.service"
    assert found[LAYER].pages.file == 20
    system = found["/system.slice"]
    # Its counter less those of its two children, and the three hundreds that no page explains.
    assert system.current_bytes == max(0, 15 * 4096 + 100 - 200)
    assert system.stat == {"slab": 10}
    assert found["/"].current_bytes is None and found["/"].unexplained_bytes is None


def test_mounts() -> None:
    text = (
        b"25 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n"
        b"30 25 0:26 / /a\\040b rw - tmpfs tmpfs rw\nnonsense\n"
        b"31 25 0:44 / /net rw - nfs4 host:/x rw\n32 25 0:45 / /f rw - fuse.sshfs x rw\n"
    )
    found = parse_mounts(text)
    assert [(mount.point, mount.kind, mount.is_memory, mount.is_disk) for mount in found] == [
        (Path("/"), "ext4", False, True),
        (Path("/a b"), "tmpfs", True, False),
        (Path("/net"), "nfs4", False, False),
        (Path("/f"), "fuse.sshfs", False, False),
    ]


def test_trees(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/one").write_text("1")
    (tmp_path / "a/two").hardlink_to(tmp_path / "a/b/one")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "a/three").write_text("3")
    misses = Misses()
    assert len(list(walk(tmp_path, misses))) == 3
    assert len(list(regular_files([tmp_path, tmp_path / "a/three"], misses))) == 3
    assert misses == Misses()
    list(walk(tmp_path / "none", misses))
    assert misses.vanished == 1
    with pytest.raises(UnreadableFile, match="symbolic link"):
        list(regular_files([tmp_path / "a/loop"], misses))


def test_an_error_at_the_start_leaves_no_torso(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), Document(JsonMode.SHORT) as document:
        document.add_list("a", (1 // number for number in (0, 1)))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("mode", [JsonMode.SHORT, JsonMode.PRETTY])
def test_documents_are_json(mode: JsonMode, capsys: pytest.CaptureFixture[str]) -> None:
    with Document(mode) as document:
        document.add({"a": 1, "b": {"c": [None, "\ud800"]}})
        document.add_list("d", iter([{"e": 1}, {"f": [1, 2]}]))
        document.add_list("g", iter([]))
    out = capsys.readouterr().out
    assert json.loads(out) == {
        "schema": 1,
        "a": 1,
        "b": {"c": [None, "\ud800"]},
        "d": [{"e": 1}, {"f": [1, 2]}],
        "g": [],
    }
    assert (out.count("\n") == 1) == (mode is JsonMode.SHORT)
    if mode is JsonMode.PRETTY:
        assert out == json.dumps(json.loads(out), indent=2) + "\n"
