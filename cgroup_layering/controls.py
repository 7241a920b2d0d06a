# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which directives there are, and the lines that keep the memory controller off an instance; the data is in
`directives.py`. Pure.
"""

from __future__ import annotations

from cgroup_layering.directives import TABLE, Directive, Handling

__all__ = ["DIRECTIVES", "Directive", "Handling", "is_unknown_control", "tracking_resets"]

DIRECTIVES: dict[str, Directive] = {directive.name: directive for directive in TABLE}

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
_FAMILIES += ("ManagedOOM", "Tasks", "IPAddress", "Allowed", "StartupAllowed", "Delegate", "OOMRules")
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


def tracking_resets(version: int, memory_pressure: bool, io_pressure: bool) -> tuple[tuple[str, str], ...]:
    """The lines that keep the memory controller off an instance in `service` tracking.

    `version` is systemd's; the other two say whether MEMORY_PRESSURE_WATCH and IO_PRESSURE_WATCH must be kept (`auto`
    needs the accounting that goes to the layer). The two zeros also shield from an ancestor's
    DefaultMemoryMin=/DefaultMemoryLow= (up to 257). No StartupMemory* line may stand here: from 254 on its mere
    presence switches the controller on.
    """
    lines = [("MemoryAccounting", "no"), ("MemoryMin", "0"), ("MemoryLow", "0")]
    lines += [(key, "infinity") for key in ("MemoryHigh", "MemoryMax", "MemorySwapMax")]
    if DIRECTIVES["MemoryZSwapMax"].lives(version):
        lines.append(("MemoryZSwapMax", "infinity"))
    if DIRECTIVES["MemoryPressureWatch"].lives(version) and memory_pressure:
        lines.append(("MemoryPressureWatch", "yes"))
    if DIRECTIVES["IOPressureWatch"].lives(version) and io_pressure:
        lines.append(("IOPressureWatch", "yes"))
    return tuple(lines)
