# SPDX-License-Identifier: LGPL-2.1-or-later
"""risk-dying: many dying cgroups are below the layer."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.kernel.release import kernel_version
from cgroup_layering.naming import slice_path

CODE = Code(
    "risk-dying",
    Kind.RISK,
    level=Level.WARNING,
    summary="Many dying cgroups are below the layer.",
    means=(
        "On kernels before 7.1 the cgroup of an ended instance stays, dying, as long as pages are charged to it. "
        "The layer has more of them than the configuration's *dying* says (200 if it says nothing)."
    ),
    matters="Each costs kernel memory, and reading the statistics of cgroups gets slower.",
    remedy=(
        "Run `cgroup-layering reap`, as its timer does too, or `cgroup-layering drain UNIT`. *service* tracking "
        "leaves none."
    ),
    sources=(
        "cgroup-layering.toml(5)",
        'Documentation/admin-guide/cgroup-v2.rst in the kernel\'s tree, "nr_dying_descendants"',
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Layers with too many."""
    if kernel_version(evidence.release) >= (7, 1):
        return
    for own in evidence.own.values():
        layer = slice_path(own.layer)
        if evidence.fs.exists(layer):
            dying = evidence.fs.cgroup_stat(layer).get("nr_dying_descendants", 0)
            if dying > evidence.config.dying:
                yield own.unit, f"{dying} dying cgroups are below the layer of {own.unit}."


CHECK = Check(CODE, find)
