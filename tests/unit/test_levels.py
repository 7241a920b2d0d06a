# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each level of a tree of cgroups is charged itself, from files of a folder in the place of the kernel's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.levels import Level, Node, outermost, tree
from cgroup_layering.output.trees import show_tree, tree_json

MIB = 1 << 20
DOMAIN = "/system.slice/system-web.domain.slice"
LAYER = f"{DOMAIN}/system-web.domain-a.service.slice"
INSTANCE = f"{LAYER}/a.service"


@pytest.fixture
def fs(tmp_path: Path) -> CgroupFS:
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    return CgroupFS(tmp_path)


def charge(fs: CgroupFS, cgroup: str, current: int, **kinds: int) -> None:
    """Write what the kernel would say of one cgroup; MiB."""
    folder = fs.directory(cgroup)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.current").write_text(f"{current * MIB}\n")
    (folder / "memory.stat").write_text("".join(f"{kind} {size * MIB}\n" for kind, size in kinds.items()))


def own(node: Node) -> Mapping[str, int]:
    return {kind: size // MIB for kind, size in node.own.items()}


def test_each_level_is_less_what_is_below_it(fs: CgroupFS) -> None:
    charge(fs, DOMAIN, 100, file=60, shmem=20, anon=30, kernel=10)
    charge(fs, LAYER, 50, file=25, shmem=5, anon=20, kernel=5)
    charge(fs, INSTANCE, 30, file=10, shmem=5, anon=16, kernel=4)
    charge(fs, f"{INSTANCE}/payload", 20, file=10, shmem=0, anon=10, kernel=0)
    charge(fs, f"{DOMAIN}/holder.service", 3, file=1, shmem=0, anon=2, kernel=0)
    domain = tree(fs, DOMAIN)
    assert (domain.level, domain.name, domain.current_bytes, domain.own_bytes) == (
        Level.DOMAIN, "web", 100 * MIB, 47 * MIB,
    )  # fmt: skip
    # Of `file` 60 are 20 shmem, and 20 of the layer's 25 and the one of the holder are not the domain's own.
    assert own(domain) == {"file": 19, "shmem": 15, "anon": 8, "kernel": 5}
    holder, layer = domain.children
    assert (holder.level, holder.name) == (Level.UNIT, "holder.service")
    assert (layer.level, layer.name, layer.own_bytes) == (Level.LAYER, "a.service", 20 * MIB)
    assert own(layer) == {"file": 15, "shmem": 0, "anon": 4, "kernel": 1}
    (instance,) = layer.children
    assert (instance.level, instance.own_bytes, instance.children) == (Level.INSTANCE, 30 * MIB, ())


def test_what_can_not_be_is_nothing(fs: CgroupFS) -> None:
    """The files are read one after the other, and cgroups come and go meanwhile."""
    charge(fs, DOMAIN, 10, file=5, anon=5)
    charge(fs, LAYER, 12, file=4, anon=8)
    fs.directory(f"{DOMAIN}/system-web.domain-gone.service.slice").mkdir()
    domain = tree(fs, DOMAIN)
    assert (domain.own_bytes, own(domain)) == (0, {"file": 1, "anon": 0})
    gone = next(child for child in domain.children if child.name == "gone.service")
    assert (gone.current_bytes, gone.own_bytes, dict(gone.own)) == (None, None, {})
    missing = tree(fs, "/system.slice/system-b.service.slice")
    assert (missing.level, missing.current_bytes, missing.children) == (Level.LAYER, None, ())


def test_only_trees_that_are_in_no_other(fs: CgroupFS) -> None:
    beside = "/system.slice/system-web.domain.slicer"
    assert outermost([LAYER, DOMAIN, beside, DOMAIN]) == [DOMAIN, beside]


def test_a_tree_for_people_and_for_programs(fs: CgroupFS, capsys: pytest.CaptureFixture[str]) -> None:
    charge(fs, DOMAIN, 4, file=3, shmem=1, anon=0, kernel=1)
    charge(fs, LAYER, 1, file=1)
    # A name that could be taken for a file of the kernel's gets a `_` before it.
    charge(fs, f"{DOMAIN}/system-web.domain-cpu.service.slice/_cpu.service", 1, anon=1)
    node = tree(fs, DOMAIN)
    show_tree([node], raw=False)
    assert capsys.readouterr().out.splitlines() == [
        "domain web: 4.0M, 3.0M itself (file 1.0M, shmem 1.0M, kernel 1.0M)",
        "├── layer a.service: 1.0M itself (file 1.0M)",
        "└── layer cpu.service: n/a",
        "    └── instance _cpu.service: 1.0M itself (anon 1.0M)",
    ]
    show_tree([node], raw=True)
    assert f"domain web: {4 * MIB}, {3 * MIB} itself" in capsys.readouterr().out
    document = tree_json(node)
    assert (document["own_bytes"], document["own_shmem_bytes"]) == (3 * MIB, MIB)
