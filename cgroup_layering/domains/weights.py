# SPDX-License-Identifier: LGPL-2.1-or-later
"""The weights of a domain: together its services weigh what they weighed beside each other. Pure.

Sources: cgroup-v2.rst for the range (1 to 10000, 100 if nothing is said, `idle` of cpu.idle);
`cgroup_weight_cpu`-like conversions of the old names in src/core/cgroup.c (shares of 1024, block I/O weights of 500).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

DEFAULT = 100
MOST = 10000
IDLE = "idle"
WEIGHTS = ("CPUWeight", "IOWeight")
KEYS = ("CPUWeight", "StartupCPUWeight", "IOWeight", "StartupIOWeight")
_OLD = {"CPUWeight": ("CPUShares", 1024), "IOWeight": ("BlockIOWeight", 500)}
"""Names of cgroup v1 that systemd up to 257 converts: the key and what counts as the default there."""


@dataclass(frozen=True, slots=True)
class Sum:
    """The weights of a domain by key; `over` are those whose sum is more than the kernel's maximum."""

    lines: Mapping[str, str]
    over: tuple[str, ...] = ()


def weigh(members: Iterable[Mapping[str, str]], given: Iterable[str] = ()) -> Sum:
    """The sum of what `members` (settings of their slices, by key) weigh; what was `given` is not summed up.

    What comes out as the default is left out: said, it would switch a controller on for all siblings.
    """
    members = tuple(members)
    left_out = frozenset(given)
    lines: dict[str, str] = {}
    over = []
    for key in WEIGHTS:
        if key in left_out or not members:
            continue
        normal = [_weight(member, key) for member in members]
        sums = {key: _sum(normal)}
        startup = f"Startup{key}"
        if startup not in left_out and any(_said(member, startup) for member in members):
            sums[startup] = _sum(
                _weight(member, startup) if _said(member, startup) else weight
                for member, weight in zip(members, normal, strict=True)
            )
        for name, total in sums.items():
            if total is not None and total > MOST:
                over.append(name)
            if total != DEFAULT or len(sums) > 1:
                lines[name] = IDLE if total is None else str(min(total, MOST))
    return Sum(lines, tuple(over))


def _sum(weights: Iterable[int | None]) -> int | None:
    """None stands for idle: what is idle adds nothing beside what is not."""
    known = [weight for weight in weights if weight is not None]
    return sum(known) if known else None


def _said(member: Mapping[str, str], key: str) -> bool:
    old = f"Startup{_OLD[key.removeprefix('Startup')][0]}"
    return bool(member.get(key) or member.get(old))


def _weight(member: Mapping[str, str], key: str) -> int | None:
    """One member's weight, None for idle. What systemd can't read counts as unsaid."""
    said = member.get(key, "")
    if said == IDLE:
        return None
    if said.isdecimal() and 1 <= int(said) <= MOST:
        return int(said)
    startup = "Startup" if key.startswith("Startup") else ""
    old, usual = _OLD[key.removeprefix("Startup")]
    said = member.get(startup + old, "")
    if said.isdecimal() and int(said) > 0:
        return min(max(int(said) * DEFAULT // usual, 1), MOST)
    return DEFAULT
