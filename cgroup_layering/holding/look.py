# SPDX-License-Identifier: LGPL-2.1-or-later
"""Is what a holder holds charged to its slice?"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from cgroup_layering.charges.bpf_maps import BpfUnavailable, bpf_maps
from cgroup_layering.charges.files import Attributor
from cgroup_layering.errors import KernelFileError
from cgroup_layering.holding.matching import TooMany, matches
from cgroup_layering.holding.model import Hold
from cgroup_layering.holding.parity import look as look_at_parity
from cgroup_layering.holding.standing import WAITS, WELL
from cgroup_layering.holding.tmpfs import files_of
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.model import ServiceFacts, Tracking
from cgroup_layering.naming import slice_path
from cgroup_layering.verify import Check


@dataclass(frozen=True, slots=True)
class Instance:
    """The live instance of a service that has a holder, as systemd names it."""

    facts: ServiceFacts
    invocation: str


def hold_checks(hold: Hold, layer: str, state: str, fs: CgroupFS, instance: Instance | None = None) -> Iterator[Check]:
    """The promises about what is held in a service's layer or a domain's slice; none before its holder's first run.

    `instance` is that of a service, which runs in its layer.
    """
    if state == WAITS:
        return
    unit = hold.owner
    yield Check(unit, "holder", WELL, state.partition(";")[0])
    home = slice_path(layer)
    inside = {entry.inode for entry in fs.walk(home)}
    if hold.files:
        yield Check(unit, "files held", "all charged to the layer", _files(hold.files, inside))
    for one in hold.tmpfs:
        paths = [str(path) for path in files_of(one.path)]
        yield Check(unit, f"tmpfs {one.path}", "all charged to the layer", _pages(paths, inside))
    yield from _maps(hold, inside)
    own = instance.facts.own if instance is not None else None
    if instance is not None and own is not None and own.tracking is Tracking.INSTANCE:
        yield from _parity(hold, home, fs, instance)


def _files(globs: tuple[str, ...], inside: Collection[int]) -> str:
    try:
        return _pages(matches(globs), inside)
    except TooMany as error:
        return str(error)


def _pages(paths: list[str], inside: Collection[int]) -> str:
    with Attributor() as attributor:
        found = list(attributor.charges(paths, on_error=lambda _error: None))
    outside = sum(sum(charges.owners.values()) - charges.pages_of(inside) for charges in found)
    return f"{outside} pages charged elsewhere" if outside else "all charged to the layer"


def _maps(hold: Hold, inside: Collection[int]) -> Iterator[Check]:
    if not hold.maps:
        return
    try:
        known = {str(pin): one.owner for one in bpf_maps() for pin in one.pins}
    except BpfUnavailable as error:
        yield Check(hold.owner, "bpf maps", "charged to the layer", str(error))
        return
    for spec in hold.maps:
        there = spec.pin in known
        actual = "charged to the layer" if known.get(spec.pin) in inside else "charged elsewhere"
        yield Check(hold.owner, f"bpf map {spec.pin}", "charged to the layer", actual if there else "missing")


def _parity(hold: Hold, home: str, fs: CgroupFS, instance: Instance) -> Iterator[Check]:
    try:
        charged = fs.read_int(instance.facts.control_group, "memory.current") or 0
        inode = fs.directory(home).stat().st_ino
        parity = look_at_parity(hold, inode, instance.invocation, charged)
    except (KernelFileError, OSError) as error:
        yield Check(hold.owner, "first and later instances", "alike", str(error))
        return
    alike = f"alike within {parity.bound}"
    yield Check(hold.owner, f"first and later instances: {parity}", alike, alike if parity.kept else "not alike")
