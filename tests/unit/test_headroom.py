# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a service fits into its layer beside what can't be reclaimed there."""

from __future__ import annotations

from pathlib import Path

import pytest

from cgroup_layering.headroom import no_room
from cgroup_layering.kernel.cgroupfs import CgroupFS

MIB = 1 << 20
UNIT, LAYER = "a.service", "system-a.service.slice"
INSIDE, PLAIN = f"/system.slice/{LAYER}/{UNIT}", f"/system.slice/{UNIT}"


def put(root: Path, cgroup: str, controllers: str = "memory", limit: str = "max", **stat: int) -> None:
    folder = root / cgroup.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.controllers").write_text(f"{controllers}\n")
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.stat").write_text("".join(f"{key} {value * MIB}\n" for key, value in stat.items()))


@pytest.fixture
def fs(tmp_path: Path) -> CgroupFS:
    put(tmp_path, "/")
    return CgroupFS(tmp_path)


def test_what_is_left_and_what_is_used_must_fit(fs: CgroupFS, tmp_path: Path) -> None:
    put(tmp_path, f"/system.slice/{LAYER}", limit=str(64 * MIB), shmem=50, kernel=3, slab_reclaimable=1)
    put(tmp_path, PLAIN, anon=20, shmem=9)
    why = no_room(fs, UNIT, LAYER, PLAIN)
    assert "52.0M in its layer" in why and "20.0M that it uses" in why and "64.0M" in why
    put(tmp_path, PLAIN, anon=11)
    assert no_room(fs, UNIT, LAYER, PLAIN) == ""


def test_what_the_running_instance_has_goes_with_it(fs: CgroupFS, tmp_path: Path) -> None:
    put(tmp_path, f"/system.slice/{LAYER}", limit=str(64 * MIB), shmem=10, unevictable=55)
    put(tmp_path, INSIDE, anon=20, unevictable=50)
    assert no_room(fs, UNIT, LAYER, INSIDE) == ""
    put(tmp_path, INSIDE, anon=20, unevictable=5)
    assert "is not restarted" in no_room(fs, UNIT, LAYER, INSIDE)


@pytest.mark.parametrize("there", ["nothing", "no limit", "no controller", "an empty layer"])
def test_there_is_room(fs: CgroupFS, tmp_path: Path, there: str) -> None:
    put(tmp_path, PLAIN, anon=500)
    layer = f"/system.slice/{LAYER}"
    if there == "no limit":
        put(tmp_path, layer, shmem=900)
    elif there == "no controller":
        (tmp_path / layer.lstrip("/")).mkdir()
    elif there == "an empty layer":
        put(tmp_path, layer, limit=str(64 * MIB))
    assert no_room(fs, UNIT, LAYER, PLAIN) == ""
