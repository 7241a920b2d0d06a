# SPDX-License-Identifier: LGPL-2.1-or-later
"""risk-residue: what former instances left behind nearly fills the layer's limit."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.headroom import residue
from cgroup_layering.model import Tracking
from cgroup_layering.naming import slice_path
from cgroup_layering.spans import format_size
from cgroup_layering.survey import Place, place_of

CODE = Code(
    "risk-residue",
    Kind.RISK,
    level=Level.WARNING,
    summary="What former instances left behind nearly fills the layer's limit.",
    means=(
        "tmpfs and shared memory, locked pages and kernel objects (bpf maps among them) can't be reclaimed. In the "
        "layer they are beyond three quarters of its MemoryMax= or MemoryHigh=, those of a running instance not "
        "counted in *instance* tracking."
    ),
    matters=(
        "The limit of a layer covers what outlives instances too. The next instance has what is left of it: it is "
        "throttled, or killed for lack of memory, and a restart does not help."
    ),
    remedy=(
        "Remove what is left (`cgroup-layering charges UNIT` shows what it is), raise the limit, or take it off "
        "the layer: `cgroup-layering enable --no-layer-limits UNIT`."
    ),
    sources=(
        "cgroup-layering-charges(8)",
        'Documentation/admin-guide/cgroup-v2.rst in the kernel\'s tree, "memory.stat"',
    ),
)


_SHARE = 0.75


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Layers whose unreclaimable memory is near their lower limit."""
    for own, facts in evidence.layered:
        layer = slice_path(own.layer)
        if not evidence.fs.exists(layer):
            continue
        limits = {name: evidence.fs.read_int(layer, f"memory.{name}") for name in ("max", "high")}
        bounds = {size: name for name, size in limits.items() if size is not None}
        if not bounds:
            continue
        bound = min(bounds)
        left = residue(evidence.fs.stat(layer))
        inside = place_of(facts, own.layer, evidence.fs) is Place.IN_LAYER
        if inside and own.tracking is Tracking.INSTANCE:
            left -= residue(evidence.fs.stat(facts.control_group))
        if left > bound * _SHARE:
            yield (
                own.unit,
                f"{format_size(left)} that can't be reclaimed are charged to the layer of {own.unit}, whose "
                f"memory.{bounds[bound]} is {format_size(bound)}.",
            )


CHECK = Check(CODE, find)
