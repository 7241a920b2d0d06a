# SPDX-License-Identifier: LGPL-2.1-or-later
"""The resource-control directives of a service, and what each tracking does with them.

Source: systemd.resource-control(5) of systemd 252, 257 and 262; src/core/load-fragment-gperf.gperf.in and
src/core/cgroup.c (`unit_get_cgroup_mask`) for what each of them switches on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Handling(StrEnum):
    """What a tracking does with a directive of the service."""

    KEEP = "keep"
    COPY = "copy"
    MOVE = "move"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive: `instance`/`service` say what that tracking does with it, `reset` undoes it in a drop-in."""

    name: str
    instance: Handling = Handling.KEEP
    service: Handling = Handling.KEEP
    reset: str = ""
    repeats: bool = False
    specifiers: bool = False
    since: int = 0
    until: int | None = None
    force_instance: bool = False
    why: str = ""


_SIBLINGS = "counts among siblings, and an instance is its layer's only child"
_BOUNDS = "bounds what outlives an instance too"
_WRITEBACK = "writeback is billed to the cgroup that the memory is charged to"
_LEAF = "means the same one level deeper"


def _kept(*names: str, why: str = _LEAF) -> list[Directive]:
    return [Directive(name, why=why) for name in names]


def _memory(
    name: str, reset: str = "infinity", since: int = 0, until: int | None = None, force: bool = False
) -> Directive:
    return Directive(
        name,
        Handling.COPY,
        Handling.MOVE,
        reset,
        since=since,
        until=until,
        force_instance=force,
        why=_BOUNDS,
    )


def _io(name: str, instance: Handling, why: str, repeats: bool = True, until: int | None = None) -> Directive:
    return Directive(name, instance, Handling.MOVE, repeats=repeats, specifiers=repeats, until=until, why=why)


_TABLE: tuple[Directive, ...] = (
    *(Directive(name, Handling.COPY, Handling.COPY, why=_SIBLINGS) for name in ("CPUWeight", "StartupCPUWeight")),
    *(
        Directive(name, Handling.COPY, Handling.COPY, until=257, why=_SIBLINGS)
        for name in ("CPUShares", "StartupCPUShares")
    ),
    _memory("MemoryMin", "0"),
    _memory("MemoryLow", "0"),
    _memory("MemoryHigh"),
    _memory("MemoryMax"),
    _memory("MemorySwapMax"),
    _memory("MemoryZSwapMax", since=253),
    _memory("MemoryLimit", "", until=257),
    Directive("MemoryZSwapWriteback", Handling.COPY, Handling.MOVE, "yes", since=256, why=_BOUNDS),
    *(
        # Once such a key appears systemd keeps its "set" flag, so no drop-in can switch it off again.
        _memory(f"Startup{name}", since=254, force=True)
        for name in ("MemoryLow", "MemoryHigh", "MemoryMax", "MemorySwapMax", "MemoryZSwapMax")
    ),
    _io("IOWeight", Handling.COPY, _SIBLINGS, repeats=False),
    _io("StartupIOWeight", Handling.COPY, _SIBLINGS, repeats=False),
    _io("IODeviceWeight", Handling.COPY, _SIBLINGS),
    _io("IODeviceLatencyTargetSec", Handling.COPY, _SIBLINGS),
    _io("IOReadBandwidthMax", Handling.KEEP, _WRITEBACK),
    _io("IOWriteBandwidthMax", Handling.KEEP, _WRITEBACK),
    _io("IOReadIOPSMax", Handling.KEEP, _WRITEBACK),
    _io("IOWriteIOPSMax", Handling.KEEP, _WRITEBACK),
    Directive("IOAccounting", Handling.KEEP, Handling.MOVE, "no", why=_WRITEBACK),
    _io("BlockIOWeight", Handling.COPY, _SIBLINGS, repeats=False, until=257),
    _io("StartupBlockIOWeight", Handling.COPY, _SIBLINGS, repeats=False, until=257),
    _io("BlockIODeviceWeight", Handling.COPY, _SIBLINGS, until=257),
    _io("BlockIOReadBandwidth", Handling.KEEP, _WRITEBACK, until=257),
    _io("BlockIOWriteBandwidth", Handling.KEEP, _WRITEBACK, until=257),
    Directive("BlockIOAccounting", Handling.KEEP, Handling.MOVE, "no", until=257, why=_WRITEBACK),
    *_kept("MemoryAccounting", why="the tracking decides it"),
    *_kept("CPUAccounting", "CPUQuota", "CPUQuotaPeriodSec"),
    *_kept("AllowedCPUs", "StartupAllowedCPUs", "AllowedMemoryNodes", "StartupAllowedMemoryNodes"),
    *_kept("TasksAccounting", "TasksMax"),
    *_kept("IPAccounting", "IPAddressAllow", "IPAddressDeny", "IPIngressFilterPath", "IPEgressFilterPath"),
    *_kept("BPFProgram", "SocketBindAllow", "SocketBindDeny", "RestrictNetworkInterfaces"),
    *_kept("BindNetworkInterface", "NFTSet", "DeviceAllow", "DevicePolicy"),
    *_kept("DefaultMemoryMin", "DefaultMemoryLow", "DefaultStartupMemoryLow", why="a service has no children"),
    *_kept("Delegate", "DelegateSubgroup", "DisableControllers", "CoredumpReceive"),
    *_kept("ManagedOOMSwap", "ManagedOOMMemoryPressure", "ManagedOOMMemoryPressureLimit"),
    *_kept("ManagedOOMMemoryPressureDurationSec", "ManagedOOMPreference"),
    *_kept("MemoryPressureWatch", "MemoryPressureThresholdSec"),
    *_kept("CPUPressureWatch", "CPUPressureThresholdSec", "IOPressureWatch", "IOPressureThresholdSec"),
    Directive(
        "CPUSetPartition",
        Handling.REFUSE,
        Handling.REFUSE,
        why="a partition needs a partition above it, and the layer is none",
    ),
    Directive("OOMRules", Handling.REFUSE, Handling.REFUSE, why="it is not handled yet"),
)

DIRECTIVES: dict[str, Directive] = {directive.name: directive for directive in _TABLE}

_FAMILIES: tuple[str, ...] = (
    "Memory",
    "StartupMemory",
    "DefaultMemory",
    "IO",
    "StartupIO",
    "BlockIO",
    "CPU",
    "StartupCPU",
)
_FAMILIES += ("ManagedOOM", "Tasks", "IPAddress", "Allowed", "StartupAllowed", "Delegate")
_NOT_CGROUP = frozenset(
    (
        "CPUAffinity",
        "CPUSchedulingPolicy",
        "CPUSchedulingPriority",
        "CPUSchedulingResetOnFork",
        "IOSchedulingClass",
        "IOSchedulingPriority",
        "MemoryDenyWriteExecute",
        "MemoryKSM",
        "MemoryTHP",
    )
)
"""Execution settings whose names only look like resource control (systemd.exec(5))."""


def is_unknown_control(key: str) -> bool:
    """Whether `key` looks like a resource-control directive that this table does not know."""
    return key not in DIRECTIVES and key not in _NOT_CGROUP and key.startswith(_FAMILIES)


def tracking_resets(version: int, pressure_watch: bool) -> tuple[tuple[str, str], ...]:
    """The lines that keep the memory controller off an instance in `service` tracking.

    `version` is systemd's; `pressure_watch` whether MEMORY_PRESSURE_WATCH must be kept (`auto` needs accounting).
    The two zeros also shield from an ancestor's DefaultMemoryMin=/DefaultMemoryLow= (up to 257). No StartupMemory*
    line may stand here: from 254 on its mere presence switches the controller on.
    """
    lines = [("MemoryAccounting", "no"), ("MemoryMin", "0"), ("MemoryLow", "0")]
    lines += [(key, "infinity") for key in ("MemoryHigh", "MemoryMax", "MemorySwapMax")]
    if version >= 253:
        lines.append(("MemoryZSwapMax", "infinity"))
    if version >= 254 and pressure_watch:
        lines.append(("MemoryPressureWatch", "yes"))
    return tuple(lines)
