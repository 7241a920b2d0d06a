# SPDX-License-Identifier: LGPL-2.1-or-later
"""risk-io: iO limits at the service miss its buffered writes."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.doctor.lines import IO_LIMITS, missing
from cgroup_layering.errors import KernelFileError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.model import Tracking
from cgroup_layering.survey import Place, place_of

CODE = Code(
    "risk-io",
    Kind.RISK,
    level=Level.WARNING,
    summary="IO limits at the service miss its buffered writes.",
    means=(
        "In *service* tracking the pages that a service writes belong to its layer, and the kernel bills their "
        "writeback there. An IO limit of the service came after it was layered, and the layer does not have it."
    ),
    matters="Only direct IO and reads are limited; buffered writes go out at full speed.",
    remedy=(
        "Run `cgroup-layering enable UNIT`, which moves the limit to the layer. On systemd 257 a running instance "
        "keeps its own until its next start."
    ),
    sources=('Documentation/admin-guide/cgroup-v2.rst in the kernel\'s tree, "Writeback"',),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """IO limits in the files that the layer lacks, and those that hold at the instance now."""
    for own, facts in evidence.layered:
        if own.tracking is not Tracking.SERVICE:
            continue
        lines = [line for line in missing(own, evidence.plans[own.unit]) if line.key in IO_LIMITS]
        for line in lines:
            yield (
                own.unit,
                f"{line.key}={line.value} ({line.source}) is not at {own.layer}, so it misses buffered writes.",
            )
        if lines or not evidence.online or place_of(facts, own.layer, evidence.fs) is not Place.IN_LAYER:
            continue
        for limit in _limits(evidence.fs, facts.control_group):
            yield (
                own.unit,
                f"The instance of {own.unit} has an IO limit of its own ({limit}): it misses buffered writes.",
            )


def _limits(fs: CgroupFS, cgroup: str) -> list[str]:
    try:
        return [line for line in fs.read_text(cgroup, "io.max").splitlines() if line]
    except KernelFileError:
        return []  # no io controller, so no limit


CHECK = Check(CODE, find, offline=True)
