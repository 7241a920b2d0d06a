# SPDX-License-Identifier: LGPL-2.1-or-later
"""What holds for a service in cgroupfs, over all levels of its path."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.effective.quantities import QUANTITIES, Counts, Quantity, share, tightest
from cgroup_layering.errors import KernelFileError
from cgroup_layering.kernel.cgroupfs import CgroupFS

_CPUSETS = ("cpuset.cpus.effective", "cpuset.mems.effective")


def effective(fs: CgroupFS, parent: str, cgroup: str) -> dict[str, str]:
    """The values that hold for `cgroup`, a service or an instance in its layer below the slice `parent`.

    `parent` is the cgroup of the service's own slice: the level below it is where siblings compete. Files that are not
    there (the controller is off) leave their keys out.
    """
    levels = _levels(cgroup)
    below = [level for level in levels if len(level) > len(parent.rstrip("/"))]
    found: dict[str, str] = {}
    for quantity in QUANTITIES:
        if quantity.counts is Counts.TIGHTEST:
            several: dict[str, list[str]] = {}
            for level in levels:
                for key, value in _read(fs, level, quantity):
                    several.setdefault(key, []).append(value)
            found.update((key, tightest(values)) for key, values in several.items())
        elif below:
            found.update(_read(fs, below[0] if quantity.counts is Counts.TOP else below[-1], quantity))
    for name in _CPUSETS:
        # Without the controller the next cgroup above that has it decides.
        values = [text for level in levels if (text := _text(fs, level, name)) is not None]
        found.update((name, values[-1]) for _ in values[-1:])
    return found


def one(fs: CgroupFS, cgroup: str, name: str) -> str | None:
    """The value of one file in one cgroup, as `effective` writes values; None where there is no such file."""
    quantity = next(quantity for quantity in QUANTITIES if quantity.file == name)
    if _text(fs, cgroup, name) is None:
        return None
    return dict(_read(fs, cgroup, quantity)).get(name, quantity.default)


def _levels(cgroup: str) -> list[str]:
    """The cgroup and all above it, from the root down."""
    parts = [part for part in cgroup.split("/") if part]
    return ["/", *("/" + "/".join(parts[: depth + 1]) for depth in range(len(parts)))]


def _text(fs: CgroupFS, cgroup: str, name: str) -> str | None:
    try:
        return fs.read_text(cgroup, name)
    except KernelFileError:
        return None


def _read(fs: CgroupFS, cgroup: str, quantity: Quantity) -> Iterator[tuple[str, str]]:
    text = _text(fs, cgroup, quantity.file)
    if text is None:
        return
    if quantity.keyed:
        yield from _devices(quantity.file, text)
    elif quantity.file == "cpu.max":
        quota, period = text.split()
        yield quantity.file, quota if quota == "max" else share(int(quota), int(period))
    elif quantity.file == "cpu.weight" and _text(fs, cgroup, "cpu.idle") == "1":
        # What cpu.weight shows of an idle group is 0 or 1, as the kernel's release goes.
        yield quantity.file, "idle"
    else:
        yield quantity.file, text


def _devices(name: str, text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        device, _, rest = line.partition(" ")
        head = name if device == "default" else f"{name} {device}"
        for word in rest.split():
            key, equals, value = word.rpartition("=")
            if value != "max":
                yield (f"{head} {key}" if equals else head), value
