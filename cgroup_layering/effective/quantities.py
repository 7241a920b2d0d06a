# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a service's cgroups can limit or share out, and how the levels of its path add up. Pure.

A service is compared with itself one level deeper, so single files say little: a limit holds wherever it stands on the
path, a weight counts only at the level that the service's siblings are on. Sources: cgroup-v2.rst for the files,
src/core/dbus-cgroup.c for the properties.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

PAGE = os.sysconf("SC_PAGE_SIZE")
UNLIMITED = "max"

Values = Mapping[str, str]
"""Quantity to value, as texts that are equal where they mean the same; what is missing has its default."""


class Counts(StrEnum):
    """Which level of the path decides."""

    TIGHTEST = "the lowest value of all levels"
    TOP = "the level whose siblings are the services of the same slice"
    LEAF = "the service's own cgroup"


@dataclass(frozen=True, slots=True)
class Quantity:
    """One file of cgroupfs: its default, and which level decides."""

    file: str
    default: str
    counts: Counts
    keyed: bool = False
    """One line per device, `MAJOR:MINOR VALUE` or `MAJOR:MINOR KEY=VALUE ...`."""


QUANTITIES = (
    *(
        Quantity(name, UNLIMITED, Counts.TIGHTEST)
        for name in ("memory.max", "memory.high", "memory.swap.max", "memory.zswap.max", "pids.max", "cpu.max")
    ),
    Quantity("memory.zswap.writeback", "1", Counts.TIGHTEST),
    Quantity("io.max", UNLIMITED, Counts.TIGHTEST, keyed=True),
    Quantity("memory.min", "0", Counts.TOP),
    Quantity("memory.low", "0", Counts.TOP),
    Quantity("cpu.weight", "100", Counts.TOP),
    Quantity("io.weight", "100", Counts.TOP, keyed=True),
    Quantity("io.bfq.weight", "100", Counts.TOP, keyed=True),
    Quantity("io.latency", "", Counts.TOP, keyed=True),
    Quantity("memory.oom.group", "0", Counts.LEAF),
    Quantity("cpuset.cpus.partition", "member", Counts.LEAF),
)

_DEFAULTS = {quantity.file: quantity.default for quantity in QUANTITIES}


def default(key: str) -> str:
    """What a key means that is not there."""
    return _DEFAULTS.get(key.partition(" ")[0], "not set")


def tightest(values: Iterable[str]) -> str:
    """The lowest of several limits."""
    limits = [value for value in values if value != UNLIMITED]
    return min(limits, key=float) if limits else UNLIMITED


def share(quota: int, period: int) -> str:
    """A CPU quota in whole percent of one CPU; systemd rounds the kernel's two numbers."""
    return str(round(quota * 100 / period))


def pages(size: int) -> str:
    """Bytes as the kernel keeps them: whole pages, rounded down."""
    return str(size // PAGE * PAGE)


def differences(before: Values, after: Values, *, also: Values | None = None, skip: Iterable[str] = ()) -> list[str]:
    """What differs, as `KEY is B instead of A`; `also` holds values that are right too, `skip` names no matter."""
    left_out = frozenset(skip)
    found = []
    for key in sorted({*before, *after}):
        expected, actual = before.get(key, default(key)), after.get(key, default(key))
        right = actual == expected or (also is not None and key in also and actual == also[key])
        if not right and key.partition(" ")[0] not in left_out:
            found.append(f"{key} is {actual} instead of {expected}")
    return found


def sentence(differing: Sequence[str]) -> str:
    """Several differences in one line."""
    return "; ".join(differing)
