# SPDX-License-Identifier: LGPL-2.1-or-later
"""The directives of systemd.resource-control(5) as data; `controls.py` says what the columns mean.

Sources: the manual pages and src/core/load-fragment-gperf.gperf.in of systemd 252, 257 and 262 (`systemd
--dump-configuration-items` lists what a release reads); `unit_get_cgroup_mask` and `unit_get_bpf_mask` in
src/core/cgroup.c for what each switches on; `cgroup_context_apply` there for where it is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

OLD = 257
"""Last release that reads the names of cgroup v1 and DefaultMemoryMin=/DefaultMemoryLow=; 262 ignores them."""


class Handling(StrEnum):
    """What a tracking does with a directive of the service."""

    KEEP = "keep"
    COPY = "copy"
    MOVE = "move"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive of a service.

    `controllers` are what it switches on (`bpf-` ones are systemd's pseudo-controllers); `instance` and `service` say
    what that tracking does with it. `reset` is the value that undoes it in a drop-in, None where nothing does.
    `emptied` is what the layer needs where the files only reset the key, as such a reset still has an effect (up to
    release `emptied_until`). `harmless` are values that `force_instance` and `refuse` don't mean.
    """

    name: str
    controllers: tuple[str, ...] = ()
    instance: Handling = Handling.KEEP
    service: Handling = Handling.KEEP
    reset: str | None = ""
    repeats: bool = False
    specifiers: bool = False
    since: int = 0
    until: int | None = None
    force_instance: str = ""
    harmless: tuple[str, ...] = ()
    emptied: str = ""
    emptied_until: int | None = None
    why: str = ""

    def lives(self, version: int) -> bool:
        """Whether this release of systemd reads the directive; others ignore it."""
        return self.since <= version and (self.until is None or version <= self.until)


_SIBLINGS = "counts among siblings, and an instance is its layer's only child"
_BOUNDS = "bounds what outlives an instance too; the copy is for programs that read their own limit"
_PROTECTS = "protects against siblings, and those are the layer's now"
_WRITEBACK = "writeback is billed to the cgroup that the memory is charged to"
_PEERS = "throttles the layer's peers for it"
_LEAF = "a limit means the same one level deeper"
_OWN_BPF = "its programs are attached to the service's own cgroup"
_NO_CHILDREN = "is for units below, and a service has none"
_STICKY = "cannot be reset by a drop-in, and its presence switches the memory controller on"
_OOMD = "needs memory figures of the instance"
_PAYLOAD = "is told to the payload in its environment"

_WEIGHTS = (Handling.COPY, Handling.COPY)
_LIMITS = (Handling.COPY, Handling.MOVE)
_KEPT_OR_MOVED = (Handling.KEEP, Handling.MOVE)
_REFUSED = (Handling.REFUSE, Handling.REFUSE)
_CPU, _CPUSET, _IO, _MEMORY, _PIDS = (("cpu",), ("cpuset",), ("io",), ("memory",), ("pids",))

_PROCESSOR = (
    Directive("CPUAccounting", until=OLD, reset="no", why="cpu.stat is there for every cgroup"),
    Directive("CPUWeight", _CPU, *_WEIGHTS, why=_SIBLINGS),
    Directive("StartupCPUWeight", _CPU, *_WEIGHTS, why=_SIBLINGS),
    Directive("CPUShares", _CPU, *_WEIGHTS, until=OLD, why=_SIBLINGS),
    Directive("StartupCPUShares", _CPU, *_WEIGHTS, until=OLD, why=_SIBLINGS),
    Directive("CPUQuota", _CPU, why=_LEAF),
    Directive("CPUQuotaPeriodSec", why=_LEAF),
    Directive("AllowedCPUs", _CPUSET, why="sets are intersected down the tree"),
    Directive("StartupAllowedCPUs", _CPUSET, why="sets are intersected down the tree"),
    Directive("AllowedMemoryNodes", _CPUSET, why="sets are intersected down the tree"),
    Directive("StartupAllowedMemoryNodes", _CPUSET, why="sets are intersected down the tree"),
    Directive(
        "CPUSetPartition",
        (),
        *_REFUSED,
        since=261,
        harmless=("member",),
        why="a partition needs a partition above it, and the layer is none",
    ),
)


def _limit(name: str, since: int = 0, until: int | None = None, reset: str = "infinity") -> Directive:
    return Directive(name, _MEMORY, *_LIMITS, reset=reset, since=since, until=until, why=_BOUNDS)


def _protection(name: str) -> Directive:
    # Up to 257 a reset also shields from an ancestor's default, so the layer needs one where the service has it.
    return Directive(name, _MEMORY, *_LIMITS, reset="0", emptied="0", emptied_until=OLD, why=_PROTECTS)


def _startup(name: str) -> Directive:
    return Directive(
        f"Startup{name}",
        _MEMORY,
        *_LIMITS,
        reset=None,
        since=254,
        force_instance=_STICKY,
        emptied="0" if name == "MemoryLow" else "infinity",
        why=_BOUNDS,
    )


_MEM = (
    Directive("MemoryAccounting", _MEMORY, reset="no", why="the tracking decides it: in `service` it becomes `no`"),
    _protection("MemoryMin"),
    _protection("MemoryLow"),
    Directive("DefaultMemoryMin", until=OLD, reset="0", why=_NO_CHILDREN),
    Directive("DefaultMemoryLow", until=OLD, reset="0", why=_NO_CHILDREN),
    Directive("DefaultStartupMemoryLow", since=254, until=OLD, reset="0", why=_NO_CHILDREN),
    _limit("MemoryHigh"),
    _limit("MemoryMax"),
    _limit("MemorySwapMax"),
    _limit("MemoryZSwapMax", since=253),
    _limit("MemoryLimit", until=OLD, reset=""),
    *(_startup(name) for name in ("MemoryLow", "MemoryHigh", "MemoryMax", "MemorySwapMax", "MemoryZSwapMax")),
    Directive("MemoryZSwapWriteback", (), *_LIMITS, reset="yes", since=256, why=_BOUNDS),
    Directive("MemoryPressureWatch", reset="auto", since=254, why=f"{_PAYLOAD}; `auto` becomes `yes` in `service`"),
    Directive("MemoryPressureThresholdSec", since=254, why=_PAYLOAD),
    Directive("CPUPressureWatch", reset="auto", since=261, why=_PAYLOAD),
    Directive("CPUPressureThresholdSec", since=261, why=_PAYLOAD),
    Directive("IOPressureWatch", reset="auto", since=261, why=f"{_PAYLOAD}; `auto` becomes `yes` where IO* moves"),
    Directive("IOPressureThresholdSec", since=261, why=_PAYLOAD),
)


def _weight(name: str, repeats: bool = False, until: int | None = None, why: str = _SIBLINGS) -> Directive:
    return Directive(name, _IO, *_LIMITS, repeats=repeats, specifiers=repeats, until=until, why=why)


def _device(name: str, until: int | None = None) -> Directive:
    return Directive(name, _IO, *_KEPT_OR_MOVED, repeats=True, specifiers=True, until=until, why=_WRITEBACK)


_DISK = (
    Directive("IOAccounting", _IO, *_KEPT_OR_MOVED, reset="no", why=_WRITEBACK),
    _weight("IOWeight"),
    _weight("StartupIOWeight"),
    _weight("IODeviceWeight", repeats=True),
    _weight("IODeviceLatencyTargetSec", repeats=True, why=_PEERS),
    *(_device(f"IO{way}{what}Max") for way in ("Read", "Write") for what in ("Bandwidth", "IOPS")),
    Directive("BlockIOAccounting", _IO, *_KEPT_OR_MOVED, reset="no", until=OLD, why=_WRITEBACK),
    _weight("BlockIOWeight", until=OLD),
    _weight("StartupBlockIOWeight", until=OLD),
    _weight("BlockIODeviceWeight", repeats=True, until=OLD),
    _device("BlockIOReadBandwidth", until=OLD),
    _device("BlockIOWriteBandwidth", until=OLD),
)

_FIREWALL = ("bpf-firewall",)
_NET_AND_DEVICES = (
    Directive("TasksAccounting", _PIDS, reset="no", why="pids.current counts what is below too"),
    Directive("TasksMax", _PIDS, reset="infinity", why=_LEAF),
    Directive("IPAccounting", _FIREWALL, reset="no", why=_OWN_BPF),
    Directive("IPAddressAllow", _FIREWALL, repeats=True, why="lists of all slices above are merged in the service"),
    Directive("IPAddressDeny", _FIREWALL, repeats=True, why="lists of all slices above are merged in the service"),
    Directive("IPIngressFilterPath", _FIREWALL, repeats=True, why=_OWN_BPF),
    Directive("IPEgressFilterPath", _FIREWALL, repeats=True, why=_OWN_BPF),
    Directive("BPFProgram", ("bpf-foreign",), repeats=True, why=_OWN_BPF),
    Directive("SocketBindAllow", ("bpf-socket-bind",), repeats=True, why=_OWN_BPF),
    Directive("SocketBindDeny", ("bpf-socket-bind",), repeats=True, why=_OWN_BPF),
    Directive("RestrictNetworkInterfaces", ("bpf-restrict-network-interfaces",), repeats=True, why=_OWN_BPF),
    Directive("BindNetworkInterface", ("bpf-bind-network-interface",), since=260, why=_OWN_BPF),
    Directive("NFTSet", repeats=True, since=255, why="its element is the id of the service's own cgroup"),
    Directive("DeviceAllow", ("bpf-devices",), repeats=True, why="Private*= and Protect*= add to the service's list"),
    Directive("DevicePolicy", ("bpf-devices",), reset="auto", why="Private*= and Protect*= add to the service's list"),
)

_TREE = (
    Directive("Slice", reset=None, why="ours: the layer, whose name keeps the service's own slice as its parent"),
    Directive(
        "Delegate",
        ("cpu", "cpuset", "io", "memory", "pids"),
        reset="no",
        why="the payload's tree hangs below the service; with memory among them only `instance` keeps it",
    ),
    Directive("DelegateSubgroup", since=254, why="lies below the service"),
    Directive("DisableControllers", repeats=True, why="what it switches off for the service is not lifted either"),
    Directive("CoredumpReceive", reset="no", since=255, why="marks the service's own cgroup"),
    *(
        Directive(name, reset="auto", force_instance=_OOMD, harmless=("auto",), why="the service stays the victim")
        for name in ("ManagedOOMSwap", "ManagedOOMMemoryPressure")
    ),
    Directive("ManagedOOMMemoryPressureLimit", reset="0", why="goes with ManagedOOMMemoryPressure="),
    Directive("ManagedOOMMemoryPressureDurationSec", since=257, why="goes with ManagedOOMMemoryPressure="),
    Directive("ManagedOOMPreference", reset="none", why="holds for the service; the layer always has `omit`"),
    Directive("OOMRules", since=261, repeats=True, force_instance=_OOMD, why="the service stays the victim"),
)

TABLE: tuple[Directive, ...] = (*_PROCESSOR, *_MEM, *_DISK, *_NET_AND_DEVICES, *_TREE)
