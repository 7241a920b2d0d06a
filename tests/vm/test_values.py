# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a service has in systemd and in cgroupfs is the same in its layer, and where it would not be, it is undone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.corpus.releases import RELEASES
from tests.vm.machine import Machine

UNIT = "rich.service"
LAYER = "system-rich.service.slice"
PLAIN = "/system.slice/rich.service"
FRAGMENT = "/usr/lib/systemd/system/rich.service"
RICH = """[Service]
ExecStart=/usr/bin/sleep infinity
MemoryMin=1M
MemoryLow=2000001
MemoryHigh=40.5%
MemoryMax=1
CPUWeight=1
CPUQuota=37%
CPUQuotaPeriodSec=50ms
AllowedCPUs=0-1
TasksMax=77
IOWeight=50
IODeviceWeight=/dev/vda 60
IODeviceLatencyTargetSec=/dev/vda 25ms
IOReadBandwidthMax=/dev/vda 5M
IOWriteIOPSMax=/dev/vda 100
IPAddressDeny=10.9.9.0/24
DevicePolicy=closed
DeviceAllow=/dev/null rw
ManagedOOMPreference=avoid
NoSuchSetting=1
"""
DROP_INS = {
    # The same file name in an earlier folder wins; all folders are pooled and apply in the order of file names.
    "/etc/systemd/system/service.d/05-all.conf": "MemorySwapMax=70M",
    "/usr/lib/systemd/system/rich.service.d/20-vendor.conf": "CPUWeight=200\nMemoryMax=2",
    "/run/systemd/system/rich.service.d/20-vendor.conf": "CPUWeight=300\nMemoryMax=90M # no comment",
    "/etc/systemd/system/also.service.d/30-alias.conf": "MemoryMax=\nMemoryMax=\\\n# within a continuation\n  88M",
    "/usr/lib/systemd/system/rich.service.d/40-masked.conf": "MemoryMax=3",
    "/etc/systemd/system.control/rich.service.d/50-CPUWeight.conf": "CPUWeight=40\nMemoryMax=bogus",
}
DROP_IN = "/etc/systemd/system/rich.service.d/60-writes.conf"
FILES: tuple[str, ...] = (
    "memory.min",
    "memory.low",
    "memory.high",
    "memory.max",
    "memory.swap.max",
    "cpu.weight",
    "cpu.max",
)
FILES += ("io.weight", "io.max", "io.latency", "pids.max", "cpuset.cpus.effective")


LAYER_GROUP = f"/system.slice/{LAYER}"
INSTANCE = f"{LAYER_GROUP}/{UNIT}"
FOREIGN = "/etc/systemd/system/system-.slice.d/foreign.conf"
MASK = "/etc/systemd/system/rich.service.d/40-masked.conf"
ALIAS = "/usr/lib/systemd/system/also.service"
SERVICE = ("--tracking=service", "--accept-oom-policy-loss")


@pytest.fixture
def rich(fresh: Machine) -> Iterator[Machine]:
    """A running plain service whose settings come from everywhere."""
    fresh.write(FRAGMENT, RICH)
    for path, text in DROP_INS.items():
        fresh.write(path, f"[Service]\n{text}\n")
    fresh.ok(f"mkdir -p {MASK.rpartition('/')[0]}; ln -sf /dev/null {MASK}; ln -sf {UNIT} {ALIAS}")
    fresh.ok(f"systemctl daemon-reload && systemctl start {UNIT}")
    yield fresh
    fresh.tool("disable", "--now", UNIT)
    files = " ".join((*DROP_INS, FRAGMENT, ALIAS, MASK, FOREIGN))
    fresh.ok(f"systemctl stop {UNIT}; rm -f {files}; systemctl daemon-reload; test ! -e /sys/fs/cgroup{LAYER_GROUP}")


def values(machine: Machine, *cgroups: str) -> dict[str, dict[str, str]]:
    """The files of each cgroup that are there, in one go."""
    names = " ".join(f"/sys/fs/cgroup{cgroup}/{name}" for cgroup in cgroups for name in FILES)
    lines = machine.ok(f"grep -H . {names} 2>/dev/null || true").splitlines()
    found: dict[str, dict[str, str]] = {cgroup: {} for cgroup in cgroups}
    for line in lines:
        path, _, text = line.removeprefix("/sys/fs/cgroup").partition(":")
        cgroup, _, name = path.rpartition("/")
        found[cgroup][name] = text
    return found


LIMITS = {"memory.max": str(88 << 20), "memory.swap.max": str(70 << 20)}
SHARES = {"memory.min": str(1 << 20), "memory.low": "1998848", "cpu.weight": "40"}
KEPT = {"cpu.max": "18500 50000", "pids.max": "77", "cpuset.cpus.effective": "0-1"}
DEVICE_LIMITS = {"rbps=5000000", "wiops=100"}


def test_the_directives_of_this_release_are_those_that_the_table_was_made_for(fresh: Machine) -> None:
    """systemd's own list of what it reads in a service and in a slice."""
    text = fresh.ok("/lib/systemd/systemd --dump-configuration-items")
    sections: dict[str, set[str]] = {}
    current: set[str] = set()
    for line in text.splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), set())
        elif "=" in line:
            current.add(line.partition("=")[0])
    service, both = sections["Service"], sections["Service"] & sections["Slice"]
    version = int(fresh.ok("systemctl --version").split()[1])
    assert both | (service & {"Delegate", "DelegateSubgroup"}) == set(RELEASES[version])


def check_layered(machine: Machine, plain: dict[str, str], service: bool) -> None:
    """Every value at the level where it belongs."""
    found = values(machine, LAYER_GROUP, INSTANCE)
    layer, instance = found[LAYER_GROUP], found[INSTANCE]
    assert machine.show(UNIT, "ControlGroup") == INSTANCE
    assert {name: layer[name] for name in (*LIMITS, *SHARES)} == {**LIMITS, **SHARES}
    assert layer["memory.high"] == plain["memory.high"] != "max"
    assert {name: instance[name] for name in KEPT} == KEPT and layer["pids.max"] == "max"
    assert ("memory.max" in instance) is not service
    limited = layer if service else instance
    assert set(limited["io.max"].split()) >= DEVICE_LIMITS
    if not service:
        assert {name: instance[name] for name in (*LIMITS, *SHARES, *KEPT)} == {**LIMITS, **SHARES, **KEPT}
    assert machine.tool("verify", UNIT).code == 0


@pytest.mark.long
def test_settings_from_everywhere_hold_in_both_trackings(rich: Machine) -> None:
    """All folders pooled, by file name; masked, continued, emptied and unreadable lines as systemd takes them."""
    before = rich.manifest()
    plain = values(rich, PLAIN)[PLAIN]
    assert {name: plain[name] for name in (*LIMITS, *SHARES, *KEPT)} == {**LIMITS, **SHARES, **KEPT}
    rich.tool_ok("enable", "--now", UNIT)
    check_layered(rich, plain, service=False)
    rich.tool_ok("enable", *SERVICE, UNIT)
    rich.ok(f"systemctl restart {UNIT}")
    check_layered(rich, plain, service=True)
    rich.tool_ok("disable", "--now", UNIT)
    assert values(rich, PLAIN)[PLAIN] == plain and rich.manifest() == before
    rich.tool_ok("enable", "--now", *SERVICE, UNIT)
    check_layered(rich, plain, service=True)


def check_undone(machine: Machine, words: str, *options: str) -> None:
    """A failure that names expected and actual, and the host as it was."""
    before, plain = machine.manifest(), values(machine, PLAIN)[PLAIN]
    result = machine.tool("enable", "--now", *options, UNIT)
    assert result.code == 1 and words in result.err, result.err
    assert machine.manifest() == before
    assert machine.show(UNIT, "ControlGroup") == PLAIN and machine.show(UNIT, "ActiveState") == "active"
    assert values(machine, PLAIN)[PLAIN] == plain
    machine.ok(f"test ! -e /sys/fs/cgroup{LAYER_GROUP}")


@pytest.mark.long
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("MemoryMax=50M", f"memory.max is {50 << 20} instead of {88 << 20}"),
        pytest.param("CPUWeight=7", "cpu.weight is 7 instead of 40", marks=pytest.mark.long),
        pytest.param("IPAddressDeny=any", "IPAddressDeny of the layer is", marks=pytest.mark.long),
        pytest.param("DisableControllers=memory", "DisableControllers of the layer is", marks=pytest.mark.long),
    ],
)
def test_a_foreign_override_of_the_layer_undoes_it(rich: Machine, setting: str, words: str) -> None:
    """A drop-in for every slice below system.slice: the service keeps what it has, and nothing of ours is left."""
    rich.write(FOREIGN, f"[Slice]\n{setting}\n")
    rich.ok("systemctl daemon-reload")
    invocation = rich.show(UNIT, "InvocationID")
    check_undone(rich, words)
    assert rich.show(UNIT, "InvocationID") == invocation, "it was seen before the restart"


@pytest.mark.long
def test_what_only_the_kernel_shows_undoes_it_too(rich: Machine) -> None:
    """Somebody writes to the layer's cgroup as the instance starts; systemd knows nothing of it."""
    write = f"[ ! -d /sys/fs/cgroup{LAYER_GROUP} ] || echo 40M >/sys/fs/cgroup{LAYER_GROUP}/memory.max"
    rich.write(DROP_IN, f"[Service]\nExecStartPost=+/bin/sh -c '{write}'\n")
    rich.ok("systemctl daemon-reload")
    check_undone(rich, f"memory.max is {40 << 20} instead of {88 << 20}")
    check_undone(rich, f"memory.max is {40 << 20} instead of {88 << 20}", *SERVICE)
    rich.ok(f"rm {DROP_IN}; systemctl daemon-reload")
