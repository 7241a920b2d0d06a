# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each check on a sound host and on one that it is for; kernel and unit files are folders, systemd a stand-in."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import pytest

from cgroup_layering.codes.code import Kind, Level
from cgroup_layering.doctor.check import Check, examine
from cgroup_layering.doctor.checks import CHECKS
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.errors import HostUnsuitable
from cgroup_layering.model import Host, ServiceFacts, Tracking
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import Manager, UnitRow
from tests.doctoring import HELLO, LAYER, codes, only, ours, place, sentences
from tests.layerings import facts
from tests.planting import ETC, LIB, SIMPLE, plant, put

CGROUP = f"cgroup/system.slice/{LAYER}"
INSTANCE = f"{CGROUP}/{HELLO}"
MOUNTINFO = "31 23 0:26 / /sys/fs/cgroup rw shared:8 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
ROOT_MOUNT = "24 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
KERNEL = {
    "cgroup/cgroup.controllers": "cpu io memory pids\n",
    "proc/self/mountinfo": MOUNTINFO + ROOT_MOUNT,
    "proc/self/mounts": "bpf /sys/fs/bpf bpf rw 0 0\n",
    "proc/sys/kernel/osrelease": "6.12.118+deb13-amd64\n",
    "proc/cmdline": "root=/dev/vda cgroup.memory=kmem quiet\n",
    "proc/pressure/memory": "some avg10=0.00\n",
    "sys/kernel/btf/vmlinux": "",
    "bin/bpftool": "",
    "map_charges.bpf.o": "",
}
MIB = 1 << 20
LIVE = {
    f"{CGROUP}/cgroup.events": "populated 1\nfrozen 0\n",
    f"{CGROUP}/cgroup.stat": "nr_descendants 1\nnr_dying_descendants 200\n",
    f"{CGROUP}/memory.current": f"{80 * MIB}\n",
    f"{CGROUP}/memory.max": f"{100 * MIB}\n",
    f"{CGROUP}/memory.high": "max\n",
    f"{CGROUP}/memory.stat": f"shmem {70 * MIB}\nkernel {5 * MIB}\nslab_reclaimable {4 * MIB}\nunevictable {MIB}\n",
    f"{INSTANCE}/cgroup.controllers": "memory pids\n",
    f"{INSTANCE}/memory.stat": f"shmem {5 * MIB}\nkernel 0\n",
}


class Systemd:
    """The few things that checks ask of a manager themselves."""

    def __init__(self, accounting: bool = True, members: Mapping[str, Mapping[str, object]] | None = None) -> None:
        self.accounting = accounting
        self.members = members or {}

    def default_memory_accounting(self) -> bool:
        return self.accounting

    def version(self) -> int:
        return 257

    def unit_path(self) -> tuple[Path, ...]:
        return (Path("/", ETC), Path("/", LIB))

    def units(self, pattern: str) -> list[UnitRow]:
        return [UnitRow(name, "loaded", "active", "running") for name in self.members if fnmatchcase(name, pattern)]

    def properties(self, units: Iterable[str], interface: str, names: Iterable[str]) -> dict[str, dict[str, object]]:
        return {unit: dict(self.members[unit]) for unit in units}


def running(**changes: Any) -> ServiceFacts:
    """hello.service, running in its layer."""
    chosen = {"active_state": "active", "slice": LAYER, "control_group": f"/system.slice/{LAYER}/{HELLO}", **changes}
    return facts("MemoryMax=100M", **chosen)


def live(
    tmp_path: Path, files: Mapping[str, str] | None = None, systemd: Systemd | None = None,
    service: ServiceFacts | None = None, **changes: Any,
) -> Evidence:  # fmt: skip
    """A host that runs, with a kernel in folders; `service` is layered where it is given."""
    put(tmp_path, {**KERNEL, **LIVE, **(files or {})})
    (tmp_path / "bin/bpftool").chmod(0o755)
    evidence = Evidence(
        Store(tmp_path / "root"),
        lambda: cast(Manager, systemd or Systemd()),
        cgroups=tmp_path / "cgroup",
        proc=tmp_path / "proc",
        sys=tmp_path / "sys",
        program=tmp_path / "map_charges.bpf.o",
        tool_path=str(tmp_path / "bin"),
    )
    plant(tmp_path / "root", {f"{LIB}/{HELLO}": SIMPLE})
    services = {}
    if service is not None:
        services = {service.unit: replace(service, own=evidence.store.own().get(service.unit))}
    evidence._known["host"] = (Host(**{"version": 257, "services": services, **changes}), ())
    return evidence


def kind(wanted: Kind) -> list[Check]:
    return [check for check in CHECKS if check.code.kind is wanted]


def test_a_sound_host_has_no_findings(tmp_path: Path) -> None:
    place(tmp_path / "root", ours())
    result = examine(kind(Kind.HOST), live(tmp_path, service=running()))
    assert codes(result) == set() and result.checks == 13


HOSTS = {
    "host-cgroup2": ({"cgroup/cgroup.controllers": ""}, "not a cgroup v2"),
    "host-memory": ({"cgroup/cgroup.controllers": "cpu io pids\n"}, "does not list memory"),
    "host-kernel": ({"proc/sys/kernel/osrelease": "7.0.8+deb14-amd64\n"}, "Linux 7.0.8"),
    "host-recursiveprot": ({"proc/self/mountinfo": MOUNTINFO.replace(",memory_recursiveprot", "")}, "memory_recursive"),
    "host-uncharged-kernel": ({"proc/cmdline": "quiet cgroup.memory=nokmem,nosocket\n"}, "nosocket.*socket buffers"),
    "host-psi": ({"proc/pressure/memory": ""}, "No such file"),
    "host-reparenting": ({"proc/sys/kernel/osrelease": "7.1.0\n"}, "Linux 7.1.0"),
    "host-bpf": ({"sys/kernel/btf/vmlinux": ""}, "kernel does not describe its types"),
    "host-hugetlb": ({"proc/self/mountinfo": MOUNTINFO.replace("\n", ",memory_hugetlb_accounting\n")}, "hugetlb"),
}


@pytest.mark.parametrize("code", HOSTS)
def test_a_fault_of_the_host(tmp_path: Path, code: str) -> None:
    files, expected = HOSTS[code]
    evidence = live(tmp_path, files)
    for name, text in files.items():
        if not text:
            (tmp_path / name).unlink()
    result = examine(only(code), evidence)
    assert codes(result) == {code}
    assert all(not finding.unit for finding in result.findings)
    assert re.search(expected, sentences(result)), sentences(result)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("40 24 0:40 / /tank rw - zfs tank rw,xattr\n", "/tank (zfs)"),
        ("40 24 259:0 / /pmem rw - ext4 /dev/pmem0 rw,dax=always\n", "/pmem (ext4, dax)"),
        ("40 24 259:0 / /pmem rw - xfs /dev/pmem0 rw,dax=inode\n", ""),
    ],
)
def test_caches_that_nobody_pays_for(tmp_path: Path, line: str, named: str) -> None:
    evidence = live(tmp_path, {"proc/self/mountinfo": MOUNTINFO + ROOT_MOUNT + line})
    result = examine(only("host-uncharged-cache"), evidence)
    assert codes(result) == ({"host-uncharged-cache"} if named else set()) and named in sentences(result)


def test_bpftool_that_is_missing(tmp_path: Path) -> None:
    evidence = live(tmp_path)
    (tmp_path / "bin/bpftool").unlink()
    assert "bpftool is not installed" in sentences(examine(only("host-bpf"), evidence))


def test_accounting_that_is_off_by_default(tmp_path: Path) -> None:
    assert codes(examine(only("host-accounting"), live(tmp_path, systemd=Systemd(False)))) == {"host-accounting"}


def test_oomd_names_those_that_it_can_not_choose(tmp_path: Path) -> None:
    kill = {"-.slice": "ManagedOOMSwap=kill"}
    place(tmp_path / "root", ours())
    evidence = live(tmp_path, service=running(), oom_kill_units=kill)
    assert sentences(examine(only("host-oomd"), evidence)).endswith("among the services below it.")
    place(tmp_path / "root", ours(tracking=Tracking.SERVICE))
    evidence = live(tmp_path, service=running(), oom_kill_units=kill)
    assert sentences(examine(only("host-oomd"), evidence)).endswith(f"tracking, {HELLO}.")


def test_a_sound_layer_has_no_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getxattr", lambda *_: b"1")
    place(tmp_path / "root", ours())
    evidence = live(tmp_path, service=replace(running(), files=facts().files))
    result = examine([*kind(Kind.DRIFT), *kind(Kind.RISK)], evidence)
    assert codes(result) == set() and result.checks == 21
    # Empty, it has 75M of 100M that can't be reclaimed, and is passed over by oomd.
    put(tmp_path, {f"{CGROUP}/cgroup.events": "populated 0\n", f"{CGROUP}/memory.max": f"{101 * MIB}\n"})
    assert codes(examine(only("risk-oomd", "risk-residue"), evidence)) == set()


def test_systemd_has_the_service_elsewhere(tmp_path: Path) -> None:
    place(tmp_path / "root", ours())
    result = examine(only("drift-slice"), live(tmp_path, service=running(slice="system.slice")))
    assert codes(result) == {"drift-slice"} and "in system.slice" in sentences(result)


def test_the_controller_at_the_instance_and_who_wants_it(tmp_path: Path) -> None:
    place(tmp_path / "root", ours(tracking=Tracking.SERVICE))
    members = {
        HELLO: {"Slice": LAYER, "MemoryAccounting": False, "MemoryMax": 64 * MIB},
        "hello.socket": {"Slice": LAYER, "MemoryAccounting": True},
        "other.socket": {"Slice": "system.slice", "MemoryAccounting": True},
        "payload.service": {"Slice": LAYER, "Delegate": True, "DelegateControllers": ["memory"]},
        "quiet.service": {"Slice": LAYER, "MemoryAccounting": False, "MemoryMax": 2**64 - 1, "MemoryLow": 0},
    }
    evidence = live(tmp_path, systemd=Systemd(members=members), service=running())
    result = examine(only("drift-controller"), evidence)
    assert codes(result) == {"drift-controller"}
    who = f"{HELLO} (MemoryMax=67108864), payload.service (Delegate=), hello.socket (MemoryAccounting=yes)."
    assert sentences(result).endswith(f"switched on by {who}")
    put(tmp_path, {f"{INSTANCE}/cgroup.controllers": "pids\n"})
    assert codes(examine(only("drift-controller"), evidence)) == set()


def test_an_empty_layer_without_files(tmp_path: Path) -> None:
    evidence = live(tmp_path, {f"{CGROUP}/cgroup.events": "populated 0\n"})
    result = examine(only("drift-cgroup"), evidence)
    assert codes(result) == {"drift-cgroup"} and "80.0M" in sentences(result)
    put(tmp_path, {f"{CGROUP}/cgroup.events": "populated 1\n"})
    assert codes(examine(only("drift-cgroup"), evidence)) == set()


def test_residue_counts_what_the_instance_does_not_hold(tmp_path: Path) -> None:
    place(tmp_path / "root", ours())
    evidence = live(tmp_path, {f"{CGROUP}/memory.max": f"{80 * MIB}\n"}, service=running())
    result = examine(only("risk-residue"), evidence)
    assert (
        codes(result) == {"risk-residue"}
        and "66.0M" in sentences(result)
        and "memory.max is 80.0M" in sentences(result)
    )
    put(tmp_path, {f"{INSTANCE}/memory.stat": f"shmem {20 * MIB}\n"})
    assert codes(examine(only("risk-residue"), evidence)) == set()
    put(tmp_path, {f"{CGROUP}/memory.high": f"{60 * MIB}\n"})
    assert "memory.high is 60.0M" in sentences(examine(only("risk-residue"), evidence))


def test_an_empty_layer_that_oomd_may_choose(tmp_path: Path) -> None:
    place(tmp_path / "root", ours())
    evidence = live(tmp_path, {f"{CGROUP}/cgroup.events": "populated 0\n"})
    assert codes(examine(only("risk-oomd"), evidence)) == {"risk-oomd"}
    put(tmp_path, {f"{CGROUP}/memory.current": "0\n"})
    assert codes(examine(only("risk-oomd"), evidence)) == set()


@pytest.mark.parametrize(("release", "many"), [("6.12.0", {"risk-dying"}), ("7.1.0", set())])
def test_dying_cgroups(tmp_path: Path, release: str, many: set[str]) -> None:
    place(tmp_path / "root", ours())
    files = {f"{CGROUP}/cgroup.stat": "nr_dying_descendants 201\n", "proc/sys/kernel/osrelease": release}
    assert codes(examine(only("risk-dying"), live(tmp_path, files))) == many


def test_a_slice_that_counts_its_units(tmp_path: Path) -> None:
    place(tmp_path / "root", ours())
    evidence = live(tmp_path, service=running(), concurrency_slices=frozenset(("system.slice",)))
    assert codes(examine(only("risk-concurrency"), evidence)) == {"risk-concurrency"}


def test_an_io_limit_at_the_instance(tmp_path: Path) -> None:
    place(tmp_path / "root", ours(tracking=Tracking.SERVICE))
    evidence = live(tmp_path, {f"{INSTANCE}/io.max": "254:0 rbps=1048576\n"}, service=running())
    assert "254:0 rbps=1048576" in sentences(examine(only("risk-io"), evidence))
    put(tmp_path, {f"{INSTANCE}/io.max": "\n"})
    assert codes(examine(only("risk-io"), evidence)) == set()


def test_a_young_temporary_file_belongs_to_a_run_that_goes_on(tmp_path: Path) -> None:
    evidence = live(tmp_path)
    put(tmp_path / "root", {f"{ETC}/.cgroup-layering-1": "x", f"{ETC}/{HELLO}.d/.cgroup-layering-2": "x"})
    assert codes(examine(only("drift-temporary"), evidence)) == set()
    for path in (f"{ETC}/.cgroup-layering-1", f"{ETC}/{HELLO}.d/.cgroup-layering-2"):
        os.utime(tmp_path / "root" / path, (0, 0))
    found = examine(only("drift-temporary"), evidence).findings
    assert {finding.unit for finding in found} == {"", HELLO}


def test_a_check_that_can_not_run_says_so_and_stops_no_other(tmp_path: Path) -> None:
    def fail() -> Manager:
        raise HostUnsuitable("The bus is away.", "Wait.")

    put(tmp_path, KERNEL)
    plant(tmp_path / "root")
    evidence = Evidence(
        Store(tmp_path / "root"), fail, cgroups=tmp_path / "cgroup", proc=tmp_path / "proc", sys=tmp_path / "sys"
    )
    (tmp_path / "proc/sys/kernel/osrelease").write_text("7.0.3\n")
    broken = replace(only("host-psi")[0], find=lambda _: iter([("", str(1 // 0))]))
    result = examine([broken, *only("host-accounting", "host-kernel")], evidence)
    assert result.not_run == {
        "host-psi": "ZeroDivisionError: integer division or modulo by zero.",
        "host-accounting": "The bus is away.",
    }
    assert result.hints == {"The bus is away.": "Wait."}
    assert [finding.code for finding in result.findings] == ["host-kernel"] and result.count(Level.ERROR) == 1


def test_every_check_has_a_file_of_its_own_and_all_are_run() -> None:
    folder = Path(__file__).resolve().parents[2] / "cgroup_layering" / "doctor"
    files = {path.stem.replace("_", "-") for path in folder.glob("*_*.py") if path.stem != "__init__"}
    assert files == {check.code.name for check in CHECKS}
    assert all(check.code.level and check.code.matters and check.code.remedy and check.code.sources for check in CHECKS)
