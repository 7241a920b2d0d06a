# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which loaded units want the memory controller in a slice (src/core/cgroup.c, `unit_get_own_mask`)."""

from __future__ import annotations

from cgroup_layering.systemd.manager import SERVICE, SOCKET, Manager

_KINDS = {
    "*.service": SERVICE,
    "*.socket": SOCKET,
    "*.scope": "org.freedesktop.systemd1.Scope",
    "*.mount": "org.freedesktop.systemd1.Mount",
}
_UNLIMITED = 2**64 - 1
_LIMITS = ("MemoryMax", "MemoryHigh", "MemorySwapMax", "MemoryZSwapMax")
_PROTECTION = ("MemoryMin", "MemoryLow")
_NAMES = ("Slice", "MemoryAccounting", "Delegate", "DelegateControllers", *_LIMITS, *_PROTECTION)


def askers(manager: Manager, layer: str) -> list[str]:
    """The members of a slice that switch memory on for all of them, each with its setting. Raises BusError."""
    found = []
    for pattern, interface in _KINDS.items():
        names = [row.name for row in manager.units(pattern) if row.load_state == "loaded"]
        for name, props in manager.properties(names, interface, _NAMES).items():
            if props.get("Slice") == layer:
                found += [f"{name} ({what})" for what in _reasons(props)]
    return found


def _reasons(props: dict[str, object]) -> list[str]:
    delegated = props.get("DelegateControllers")
    if props.get("MemoryAccounting"):
        return ["MemoryAccounting=yes"]
    if props.get("Delegate") and isinstance(delegated, list) and "memory" in delegated:
        return ["Delegate="]
    limits = [key for key in _LIMITS if props.get(key, _UNLIMITED) != _UNLIMITED]
    return [f"{key}={props[key]}" for key in (*limits, *(key for key in _PROTECTION if props.get(key)))]
