# SPDX-License-Identifier: LGPL-2.1-or-later
"""Does a layered service have what it had? What systemd and the kernel say, against what they said before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cgroup_layering.effective.kernel import effective
from cgroup_layering.effective.quantities import differences
from cgroup_layering.effective.settings import PROPERTIES, Properties, combined, in_kernel, touched
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.model import Layering, ServiceFacts, ServicePlan, Tracking
from cgroup_layering.naming import ancestors, slice_path
from cgroup_layering.systemd.manager import SERVICE, SLICE, Manager

_BOUNDS = ("memory.max", "memory.high", "memory.swap.max", "MemoryLimit", "StartupMemoryMax", "StartupMemoryHigh")


def comparable(facts: ServiceFacts) -> bool:
    """Whether a service should keep what it has now: it is plain, and systemd has read its files as they are."""
    return facts.own is None and bool(facts.settings) and not facts.need_daemon_reload


def _given_up(layering: Layering) -> tuple[str, ...]:
    """Keys that may differ, as that was asked for and said."""
    if layering.tracking is Tracking.INSTANCE:
        return ()
    return ("memory.oom.group", *(() if layering.limits else _BOUNDS))


def chain(parent: str) -> tuple[str, ...]:
    """The slices from the root down to `parent`."""
    return (*reversed(ancestors(parent)), parent)


class ReadBack:
    """What systemd says of some layerings after the reload."""

    def __init__(self, manager: Manager, layerings: Iterable[Layering], services: Mapping[str, Properties]) -> None:
        layerings = tuple(layerings)
        names = {name for layering in layerings for name in (*chain(layering.parent), layering.layer)}
        self._slices = manager.properties(sorted(names), SLICE, PROPERTIES)
        self._services = services

    def lost(self, layering: Layering, facts: ServiceFacts | None) -> list[str]:
        """What would not be as before, as `KEY is B instead of A`; empty if all is."""
        above = [self._slices[name] for name in chain(layering.parent)]
        service, layer = self._services[layering.unit], self._slices[layering.layer]
        after = combined(above, [layer, service])
        found = touched(above[-1], layer)
        skip = _given_up(layering)
        if layering.tracking is Tracking.INSTANCE:
            # Our drop-in changes nothing of the service, so what it says of itself is the truth.
            found += differences(combined(above, [service]), after, skip=skip)
        if facts is not None and comparable(facts):
            found += differences(combined(above, [facts.settings]), after, skip=skip)
        return list(dict.fromkeys(found))

    def expected(self, facts: ServiceFacts, parent: str) -> dict[str, str]:
        """What the kernel should show of a plain service, as far as properties tell."""
        return in_kernel(combined([self._slices[name] for name in chain(parent)], [facts.settings]))


def read_properties(manager: Manager, units: Iterable[str]) -> dict[str, dict[str, object]]:
    """The properties of services that `ReadBack` compares, and their slices."""
    return manager.properties(units, SERVICE, ("Slice", *PROPERTIES))


class KernelBefore:
    """What the kernel held for running plain services before the first write."""

    def __init__(self, fs: CgroupFS, services: Iterable[ServicePlan], facts: Mapping[str, ServiceFacts]) -> None:
        self._fs = fs
        self._facts = facts
        self.read_back: ReadBack | None = None
        """Is there after the reload."""
        self._before: dict[str, dict[str, str]] = {}
        for service in services:
            known = facts[service.unit]
            if service.layering is not None and comparable(known) and known.running and fs.exists(known.control_group):
                self._before[service.unit] = effective(fs, slice_path(known.parent), known.control_group)

    def lost(self, service: ServicePlan, cgroup: str) -> list[str]:
        """What the instance in `cgroup` does not have as the plain one had it.

        What systemd's own properties said of the plain one is right too: a service whose settings changed after its
        start can have old ones in the kernel, and gets the new ones with any restart.
        """
        layering = service.layering
        if layering is None or service.unit not in self._before:
            return []
        facts = self._facts[service.unit]
        expected = self.read_back.expected(facts, layering.parent) if self.read_back is not None else {}
        after = effective(self._fs, slice_path(layering.parent), cgroup)
        return differences(self._before[service.unit], after, also=expected, skip=_given_up(layering))
