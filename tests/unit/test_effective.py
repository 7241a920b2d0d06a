# SPDX-License-Identifier: LGPL-2.1-or-later
"""What holds over several levels, in properties and in cgroupfs, and what makes a difference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from cgroup_layering.effective.kernel import effective, one
from cgroup_layering.effective.quantities import differences
from cgroup_layering.effective.settings import combined, in_kernel, touched
from cgroup_layering.kernel.cgroupfs import CgroupFS

INFINITE = 2**64 - 1
LAYER = "/system.slice/system-a.service.slice"


def grow(root: Path, files: Mapping[str, str]) -> CgroupFS:
    (root / "cgroup.controllers").write_text("cpu memory\n")
    for name, text in files.items():
        path = root / name.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return CgroupFS(root)


def plain_and_layered(root: Path, plain: Mapping[str, str], layered: Mapping[str, str]) -> list[str]:
    """The differences between a plain service and its instance; names in `layered` begin with `l/` or `i/`."""
    places = {"l": LAYER, "i": f"{LAYER}/a.service"}
    files = {f"/system.slice/a.service/{name}": text for name, text in plain.items()}
    files |= {f"{places[name[0]]}/{name[2:]}": text for name, text in layered.items()}
    fs = grow(
        root, {**files, "/system.slice/memory.max": "943718400", "/system.slice/a.service/x": ""} | {f"{LAYER}/x": ""}
    )
    before = effective(fs, "/system.slice", "/system.slice/a.service")
    return differences(before, effective(fs, "/system.slice", f"{LAYER}/a.service"))


@pytest.mark.parametrize(
    ("plain", "layered"),
    [
        ({"memory.max": "4096"}, {"l/memory.max": "4096", "i/memory.max": "4096"}),
        ({"memory.max": "4096"}, {"l/memory.max": "4096"}),
        ({"memory.max": "4096"}, {"l/memory.max": "max", "i/memory.max": "4096"}),
        ({"memory.low": "4096"}, {"l/memory.low": "4096"}),
        ({"cpu.weight": "50"}, {"l/cpu.weight": "50", "i/cpu.weight": "100"}),
        ({"cpu.weight": "0", "cpu.idle": "1"}, {"l/cpu.weight": "1", "l/cpu.idle": "1"}),
        ({}, {"l/cpu.weight": "100", "l/memory.low": "0", "i/memory.max": "max"}),
        ({"cpu.max": "50000 100000"}, {"l/cpu.max": "max 100000", "i/cpu.max": "5000 10000"}),
        (
            {"io.max": "8:0 rbps=5 wbps=max riops=max wiops=max"},
            {"i/io.max": "8:0 rbps=5 wbps=max riops=max wiops=max"},
        ),
        ({"io.max": "8:0 rbps=5 wbps=9 riops=max wiops=max"}, {"l/io.max": "8:0 rbps=5 wbps=9 riops=max wiops=max"}),
        ({"io.weight": "default 50\n8:0 60"}, {"l/io.weight": "default 50\n8:0 60", "i/io.weight": "default 100"}),
        ({"io.latency": "8:0 target=9"}, {"l/io.latency": "8:0 target=9"}),
        ({"pids.max": "5"}, {"l/pids.max": "max", "i/pids.max": "5"}),
        ({"memory.oom.group": "1"}, {"l/memory.oom.group": "0", "i/memory.oom.group": "1"}),
    ],
)
def test_what_means_the_same(tmp_path: Path, plain: Mapping[str, str], layered: Mapping[str, str]) -> None:
    assert plain_and_layered(tmp_path, plain, layered) == []


@pytest.mark.parametrize(
    ("plain", "layered", "words"),
    [
        (
            {"memory.max": "8192"},
            {"l/memory.max": "4096", "i/memory.max": "8192"},
            "memory.max is 4096 instead of 8192",
        ),
        ({"memory.max": "8192"}, {}, "memory.max is 943718400 instead of 8192"),
        ({"memory.low": "4096"}, {"l/memory.low": "0", "i/memory.low": "4096"}, "memory.low is 0 instead of 4096"),
        ({"cpu.weight": "50"}, {"l/cpu.weight": "100", "i/cpu.weight": "50"}, "cpu.weight is 100 instead of 50"),
        ({"cpu.weight": "1"}, {"l/cpu.weight": "1", "l/cpu.idle": "1"}, "cpu.weight is idle instead of 1"),
        ({"cpu.max": "50000 100000"}, {"i/cpu.max": "max 100000"}, "cpu.max is max instead of 50"),
        ({"io.max": "8:0 rbps=5"}, {"i/io.max": "8:16 rbps=5"}, "io.max 8:0 rbps is max instead of 5"),
        ({"io.weight": "default 50"}, {"i/io.weight": "default 50"}, "io.weight is 100 instead of 50"),
        ({"io.latency": "8:0 target=9"}, {"i/io.latency": "8:0 target=9"}, "io.latency 8:0 target is"),
        ({"pids.max": "max"}, {"l/pids.max": "5"}, "pids.max is 5 instead of max"),
        (
            {"cpuset.cpus.effective": "0-1"},
            {"i/cpuset.cpus.effective": "0"},
            "cpuset.cpus.effective is 0 instead of 0-1",
        ),
        ({"memory.oom.group": "1"}, {"l/memory.oom.group": "1"}, "memory.oom.group is 0 instead of 1"),
    ],
)
def test_what_makes_a_difference(
    tmp_path: Path, plain: Mapping[str, str], layered: Mapping[str, str], words: str
) -> None:
    assert any(found.startswith(words) for found in plain_and_layered(tmp_path, plain, layered))


def test_a_limit_above_counts_in_both(tmp_path: Path) -> None:
    fs = grow(
        tmp_path, {"/system.slice/memory.max": "4096", f"{LAYER}/memory.max": "max", f"{LAYER}/i/memory.max": "8192"}
    )
    assert effective(fs, "/system.slice", f"{LAYER}/i")["memory.max"] == "4096"
    assert one(fs, LAYER, "memory.max") == "max" and one(fs, LAYER, "cpu.weight") is None


def test_also_right_and_no_matter() -> None:
    assert differences({"a": "1"}, {"a": "2"}) == ["a is 2 instead of 1"]
    assert differences({"a": "1"}, {"a": "2"}, also={"a": "2"}) == []
    assert differences({"io.max 8:0 rbps": "1"}, {}, skip=("io.max",)) == []


def test_properties_add_up_like_files() -> None:
    service = {"MemoryMax": 8192, "CPUWeight": 50, "CPUQuotaPerSecUSec": 370000, "TasksMax": 5, "MemoryLow": 4097}
    plain = combined([{}], [service])
    assert plain == {"memory.max": "8192", "cpu.weight": "50", "cpu.max": "37", "pids.max": "5", "memory.low": "4096"}
    layer = {"MemoryMax": 8192, "CPUWeight": 50, "MemoryLow": 4097, "TasksMax": INFINITE}
    assert combined([{}], [layer, service]) == plain
    assert combined([{}], [{**layer, "CPUWeight": INFINITE}, service]) == {
        k: v for k, v in plain.items() if k != "cpu.weight"
    }
    assert combined([{"MemoryMax": 4096}], [layer, service])["memory.max"] == "4096"
    assert combined([], [{"CPUWeight": 0, "MemoryLow": 0}]) == {"cpu.weight": "idle"}
    assert combined([], [{"MemoryMin": INFINITE}]) == {"memory.min": "max"}


def test_device_lists() -> None:
    plain = {"IOReadBandwidthMax": [("/dev/a", 5), ("/dev/b", INFINITE)], "IODeviceWeight": [("/dev/a", 60)]}
    assert combined([], [{"IODeviceWeight": [("/dev/a", 60)]}, plain]) == combined([], [plain])
    assert combined([], [{}, plain]) != combined([], [plain])


def test_what_a_service_disables_for_itself_does_not_count() -> None:
    assert combined([], [{"MemoryMax": 4096, "CPUWeight": 5, "DisableControllers": ["memory"]}]) == {"cpu.weight": "5"}


def test_what_a_layer_must_not_have() -> None:
    unset: dict[str, object] = {"IPAddressDeny": [], "RestrictNetworkInterfaces": (False, []), "DevicePolicy": "auto"}
    assert touched({}, unset) == []
    assert len(touched({}, {"IPAddressDeny": [1], "DevicePolicy": "closed", "DisableControllers": ["memory"]})) == 3
    # A drop-in for all slices is on the one above too, and adds nothing.
    assert touched({"IPAddressDeny": [1]}, {"IPAddressDeny": [1]}) == []


def test_what_the_kernel_shows_for_sure() -> None:
    assert in_kernel({})["cpu.weight"] == "100" and in_kernel({})["memory.max"] == "max"
    assert "cpu.weight" not in in_kernel({"StartupCPUWeight": "5"}) and "memory.max" not in in_kernel(
        {"MemoryLimit": "1"}
    )
