# SPDX-License-Identifier: LGPL-2.1-or-later
"""In which order services are restarted, so that each is once, and what counts as healthy afterwards. Pure.

A restart propagates to the units that are PartOf=, BindsTo= or Requires= the restarted one (systemd.unit(5);
UNIT_ATOM_PROPAGATE_RESTART in src/core/unit-dependency-atom.c).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

PROPAGATES = ("ConsistsOf", "BoundBy", "RequiredBy")
"""Properties of a unit that name whom its restart restarts."""


@dataclass(frozen=True, slots=True)
class Gate:
    """How a run of restarts is paced, and what stops it. Times in seconds."""

    batch: int = 0
    """Services restarted at a time; 0 for all at once."""
    pause_seconds: float = 0.0
    """Between two batches."""
    health_seconds: float = 0.0
    """How long a service has to stay up, with the same instance, to count as healthy."""
    health_command: tuple[str, ...] = ()
    """Run for each service, its name in $UNIT; what does not exit with 0 counts as failed."""
    max_failures: int = 0
    """So many failed services end the run and undo it; 0 for any number."""


NO_GATE = Gate()
"""All at once, and nothing but systemd's word for how it went."""


def closure(unit: str, propagates: Mapping[str, Collection[str]]) -> frozenset[str]:
    """All units that a restart of `unit` restarts, itself left out."""
    found: set[str] = set()
    waiting = [unit]
    while waiting:
        for other in propagates.get(waiting.pop(), ()):
            if other not in found and other != unit:
                found.add(other)
                waiting.append(other)
    return frozenset(found)


def leaders(units: Sequence[str], propagates: Mapping[str, Collection[str]]) -> list[str]:
    """The units that have to be restarted so that all of `units` are, each once; in their order.

    Of units that restart each other the first leads.
    """
    reach = {unit: closure(unit, propagates) for unit in units}
    place = {unit: number for number, unit in enumerate(units)}

    def leads(unit: str) -> bool:
        above = [other for other in units if unit in reach[other] and other != unit]
        return all(other in reach[unit] and place[other] > place[unit] for other in above)

    return [unit for unit in units if leads(unit)]


def batches(units: Sequence[str], size: int) -> Iterator[list[str]]:
    """`units` in parts of `size`, or in one part if that is 0."""
    step = size or max(1, len(units))
    for start in range(0, len(units), step):
        yield list(units[start : start + step])


def cut_off(failures: int, gate: Gate) -> bool:
    """Whether a run with so many failures ends here."""
    return bool(gate.max_failures) and failures >= gate.max_failures


def also_restarted(units: Iterable[str], propagates: Mapping[str, Collection[str]]) -> frozenset[str]:
    """What restarts of `units` restart besides them."""
    chosen = frozenset(units)
    return frozenset().union(*(closure(unit, propagates) for unit in chosen)) - chosen
