# SPDX-License-Identifier: LGPL-2.1-or-later
"""Properties of `systemctl show` that differ between a plain and a layered service, and those that always differ."""

from __future__ import annotations

import re
from collections.abc import Collection
from fnmatch import fnmatchcase

BOTH = ("instance", "service")
SERVICE = ("service",)

_MOVED = "It is the layer's; a service that has none of it does not differ."
_CPUSET = (
    "Empty on Debian 12: the slice above has the cpuset controller on for its children, because one of them delegates "
    "it, and the service is no child of it any more."
)
_UNCOUNTED = "The service has no memory figures of its own; the layer has them."
DIFFERENT: dict[str, tuple[tuple[str, ...], str]] = {
    "Slice": (BOTH, "It is the layer."),
    "ControlGroup": (BOTH, "The layer is in the path."),
    "DropInPaths": (BOTH, "Our drop-in is one of them."),
    "Requires": (BOTH, "systemd requires the slice of a service."),
    "After": (BOTH, "systemd starts a service after its slice."),
    "EffectiveCPUs": (BOTH, _CPUSET),
    "EffectiveMemoryNodes": (BOTH, _CPUSET),
    "MemoryAccounting": (SERVICE, "The layer counts, not the service."),
    "MemoryPressureWatch": (SERVICE, "`auto` would need memory figures of the service; `yes` does as before."),
    "MemoryLow": (SERVICE, _MOVED),
    "MemoryMin": (SERVICE, _MOVED),
    "MemoryCurrent": (SERVICE, _UNCOUNTED),
    "MemoryPeak": (SERVICE, _UNCOUNTED),
    "MemorySwapCurrent": (SERVICE, _UNCOUNTED),
    "MemorySwapPeak": (SERVICE, _UNCOUNTED),
    "MemoryZSwapCurrent": (SERVICE, _UNCOUNTED),
}
"""By name: the trackings in which it differs, and why."""

NOISE: tuple[tuple[tuple[str, ...], str], ...] = (
    (("*Timestamp", "*TimestampMonotonic"), "times"),
    (("*PID", "InvocationID", "ControlGroupId"), "ids of this start"),
    (("CPUUsageNSec", "TasksCurrent", "NFileDescriptorStore"), "use of resources"),
    (
        ("MemoryAvailable", "EffectiveMemoryMax", "EffectiveMemoryHigh"),
        "what the host has: a little more or less memory at each boot",
    ),
    (("StatusText",), "what the service says of itself"),
)
"""Patterns of names whose values differ between any two starts of a service, and why."""

# systemd keeps these as sets, and prints them in any order.
_SETS = frozenset(
    (
        *("Names", "Requires", "Requisite", "Wants", "BindsTo", "PartOf", "Upholds", "RequiredBy", "RequisiteOf"),
        *("WantedBy", "BoundBy", "UpheldBy", "ConsistsOf", "Conflicts", "ConflictedBy", "Before", "After"),
        *("OnFailure", "OnFailureOf", "OnSuccess", "OnSuccessOf", "Triggers", "TriggeredBy", "JoinsNamespaceOf"),
        *("PropagatesReloadTo", "ReloadPropagatedFrom", "PropagatesStopTo", "StopPropagatedFrom"),
        *("RequiresMountsFor", "WantsMountsFor", "IPAddressAllow", "IPAddressDeny"),
    )
)
_FIGURES = frozenset(("MemoryCurrent", "MemoryPeak", "MemorySwapCurrent", "MemorySwapPeak", "MemoryZSwapCurrent"))


def is_noise(name: str) -> bool:
    """Whether a property differs between any two starts."""
    return any(fnmatchcase(name, pattern) for patterns, _why in NOISE for pattern in patterns)


def settled(name: str, value: str) -> str:
    """A value without what is of this run alone."""
    if name in _SETS:
        # Sessions are numbered.
        return re.sub(r"\bsession-\d+\.scope", "session-N.scope", " ".join(sorted(value.split())))
    if name in _FIGURES:
        return "a number" if value.isdigit() else value
    # Of a command: when it ran and how it ended.
    return re.sub(r" ; start_time=.*", " }", value) if name.startswith("Exec") else value


def compared(
    one: dict[str, str], other: dict[str, str], gone: Collection[str] = ()
) -> dict[str, tuple[str | None, str | None]]:
    """What differs between two looks at a service; nothing if it is in another state now.

    `gone` are units that are loaded in one of the looks alone: others that are Before= them name them only then.
    """
    if any(one[name] != other[name] for name in ("ActiveState", "SubState", "Result")):
        return {}
    pairs = {name: (one.get(name), other.get(name)) for name in one.keys() | other.keys() if not is_noise(name)}
    return {name: pair for name, pair in pairs.items() if len({_without(name, value, gone) for value in pair}) > 1}


def _without(name: str, value: str | None, gone: Collection[str]) -> str | None:
    if value is None or name not in _SETS:
        return value
    return " ".join(word for word in value.split() if word not in gone)
