# SPDX-License-Identifier: LGPL-2.1-or-later
"""Properties of `systemctl show` that differ between a plain and a layered service, and those that always differ."""

from __future__ import annotations

from fnmatch import fnmatchcase

BOTH = ("instance", "service")

DIFFERENT: dict[str, tuple[tuple[str, ...], str]] = {
    "Slice": (BOTH, "It is the layer."),
    "ControlGroup": (BOTH, "The layer is in the path."),
    "DropInPaths": (BOTH, "Our drop-in is one of them."),
    "Requires": (BOTH, "systemd requires the slice of a service."),
    "After": (BOTH, "systemd starts a service after its slice."),
}
"""By name: the trackings in which it differs, and why."""

NOISE: tuple[tuple[tuple[str, ...], str], ...] = (
    (("*Timestamp", "*TimestampMonotonic"), "times"),
    (("Exec*",), "the times and the process id of the last run of each command; the command itself is compared"),
    (("*PID", "InvocationID", "ControlGroupId", "UID", "GID", "Job", "StatusErrno"), "ids of this start"),
    (("CPUUsageNSec", "Memory*Current", "MemoryPeak", "MemoryAvailable", "TasksCurrent"), "use of resources"),
    (("IO*Bytes", "IO*Operations", "IP*Bytes", "IP*Packets", "NFileDescriptorStore"), "use of resources"),
    (("*State", "SubState", "Result", "NRestarts", "StatusText", "StateChange*"), "what the service does right now"),
)
"""Patterns of names whose values differ between any two starts of a service, and why."""


def is_noise(name: str) -> bool:
    """Whether a property differs between any two starts."""
    return any(fnmatchcase(name, pattern) for patterns, _why in NOISE for pattern in patterns)
