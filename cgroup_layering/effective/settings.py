# SPDX-License-Identifier: LGPL-2.1-or-later
"""What holds for a service as systemd has it: its properties and those of the slices above, level by level. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cgroup_layering.effective.quantities import UNLIMITED, default, pages, share, tightest

Properties = Mapping[str, object]

_INFINITE = 2**64 - 1
_SIZES = {
    "MemoryMax": "memory.max",
    "MemoryHigh": "memory.high",
    "MemorySwapMax": "memory.swap.max",
    "MemoryZSwapMax": "memory.zswap.max",
}
_TIGHTEST = {**_SIZES, "TasksMax": "pids.max", "CPUQuotaPerSecUSec": "cpu.max"}
_PROTECTIONS = {"MemoryMin": "memory.min", "MemoryLow": "memory.low"}
_WEIGHTS = {"CPUWeight": "cpu.weight", "IOWeight": "io.weight"}
FILES: Mapping[str, str] = {**_SIZES, **_PROTECTIONS, **_WEIGHTS}
"""Properties whose value stands alone in one file of the cgroup (src/core/cgroup.c)."""
_STARTUP = ("MemoryMax", "MemoryHigh", "MemorySwapMax", "MemoryZSwapMax")
_MORE_TIGHTEST = ("MemoryLimit", *(f"Startup{name}" for name in _STARTUP))
_MORE_TOP: tuple[str, ...] = (
    "StartupCPUWeight",
    "CPUShares",
    "StartupCPUShares",
    "StartupIOWeight",
)
_MORE_TOP += ("BlockIOWeight", "StartupBlockIOWeight")
_DEVICE_TIGHTEST = tuple(f"IO{way}{what}Max" for way in ("Read", "Write") for what in ("Bandwidth", "IOPS"))
_DEVICE_TIGHTEST += ("BlockIOReadBandwidth", "BlockIOWriteBandwidth")
_DEVICE_TOP = ("IODeviceWeight", "IODeviceLatencyTargetUSec", "BlockIODeviceWeight")
_UNTOUCHED: Mapping[str, object] = {
    "AllowedCPUs": [],
    "StartupAllowedCPUs": [],
    "AllowedMemoryNodes": [],
    "StartupAllowedMemoryNodes": [],
    "DisableControllers": [],
    "IPAddressAllow": [],
    "IPAddressDeny": [],
    "IPIngressFilterPath": [],
    "IPEgressFilterPath": [],
    "BPFProgram": [],
    "SocketBindAllow": [],
    "SocketBindDeny": [],
    "RestrictNetworkInterfaces": (False, []),
    "BindNetworkInterface": "",
    "NFTSet": [],
    "DeviceAllow": [],
    "DevicePolicy": "auto",
}
"""What a layer must leave as it is without a setting, or as the slice above it has it."""

PROPERTIES: tuple[str, ...] = (
    *(*_TIGHTEST, *_PROTECTIONS, "StartupMemoryLow", *_WEIGHTS, *_MORE_TIGHTEST, *_MORE_TOP),
    *(*_DEVICE_TIGHTEST, *_DEVICE_TOP, *_UNTOUCHED),
)
IN_KERNEL = frozenset((*_TIGHTEST.values(), *_WEIGHTS.values()))
"""Keys that `effective` has too. (memory.low can come from a slice's DefaultMemoryLow=, which is in no property.)"""

_UNSURE = {
    "cpu.weight": ("StartupCPUWeight", "CPUShares", "StartupCPUShares"),
    "io.weight": ("StartupIOWeight", "BlockIOWeight", "StartupBlockIOWeight"),
    "memory.max": ("MemoryLimit", "StartupMemoryMax"),
    **{_SIZES[name]: (f"Startup{name}",) for name in ("MemoryHigh", "MemorySwapMax", "MemoryZSwapMax")},
}
_CONTROLLERS = (("Memory", "memory"), ("CPU", "cpu"), ("IO", "io"), ("Tasks", "pids"))


def combined(above: Sequence[Properties], below: Sequence[Properties]) -> dict[str, str]:
    """The values that hold for a service.

    `above` are the slices it has in both cases, from the root down; `below` the levels of its own: the service alone,
    or its layer and itself. A level's DisableControllers= takes its own settings away too, as systemd does it.
    """
    found: dict[str, str] = {}
    levels = list(_applied((*above, *below)))
    top = levels[len(above)] if below else {}
    for name, key in {**_TIGHTEST, **{name: name for name in _MORE_TIGHTEST}}.items():
        value = tightest(_limit(name, level.get(name)) for level in levels)
        if value != "max":
            found[key] = value
    for name in (*_WEIGHTS, *_MORE_TOP):
        setting = top.get(name)
        if isinstance(setting, int) and setting != _INFINITE:
            found[_WEIGHTS.get(name, name)] = "idle" if name.endswith("CPUWeight") and setting == 0 else str(setting)
    for name in (*_PROTECTIONS, "StartupMemoryLow"):
        setting = top.get(name)
        if isinstance(setting, int) and setting != 0:
            found[_PROTECTIONS.get(name, name)] = UNLIMITED if setting == _INFINITE else pages(setting)
    for name in _DEVICE_TIGHTEST:
        for path in {path for level in levels for path, _ in _pairs(level.get(name))}:
            values = (str(size) for level in levels for where, size in _pairs(level.get(name)) if where == path)
            found[f"{name} {path}"] = tightest(value for value in values if value != str(_INFINITE))
    for name in _DEVICE_TOP:
        found.update((f"{name} {path}", str(value)) for path, value in _pairs(top.get(name)))
    return found


def in_kernel(said: Mapping[str, str]) -> dict[str, str]:
    """What the kernel should show, as far as properties tell for sure: not what differs during startup."""
    return {
        key: said.get(key, default(key))
        for key in sorted(IN_KERNEL)
        if not any(other in said for other in _UNSURE.get(key, ()))
    }


def touched(parent: Properties, layer: Properties) -> list[str]:
    """What somebody else set on a layer that it must not have; what its parent has too adds nothing."""
    return [
        f"{name} of the layer is {layer[name]!r} instead of unset"
        for name, unset in _UNTOUCHED.items()
        if name in layer and layer[name] not in (unset, parent.get(name))
    ]


def _applied(levels: Iterable[Properties]) -> Iterable[Properties]:
    disabled: set[str] = set()
    for level in levels:
        names = level.get("DisableControllers")
        disabled.update(names if isinstance(names, list) else ())
        gone = tuple(word for word, controller in _CONTROLLERS if controller in disabled)
        yield {
            name: value
            for name, value in level.items()
            if not gone or not name.removeprefix("Startup").removeprefix("Block").startswith(gone)
        }


def _limit(name: str, value: object) -> str:
    if not isinstance(value, int) or value == _INFINITE:
        return "max"
    if name == "CPUQuotaPerSecUSec":
        return share(value, 1_000_000)
    return pages(value) if "Memory" in name else str(value)


def _pairs(value: object) -> list[tuple[str, int]]:
    return [(str(path), int(size)) for path, size in value] if isinstance(value, list) else []
