# SPDX-License-Identifier: LGPL-2.1-or-later
"""risk-concurrency: the layer counts in a slice that limits its units."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.naming import ancestors

CODE = Code(
    "risk-concurrency",
    Kind.RISK,
    level=Level.WARNING,
    summary="The layer counts in a slice that limits its units.",
    means=(
        "A slice above the layer has ConcurrencyHardMax=, ConcurrencySoftMax= or ActivatingConcurrencyMax=, set "
        "since the service was layered (`plan` refuses such services)."
    ),
    matters=(
        "The slice counts a layered service twice, and its layer also while it is stopped: others may wait or fail "
        "to start."
    ),
    remedy="Raise the limit, or run `cgroup-layering disable UNIT`.",
    sources=(
        'systemd.slice(5), "ConcurrencyHardMax="',
        "src/core/slice.c in systemd's tree",
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Layered services below such a slice."""
    for own, facts in evidence.layered:
        for name in (facts.home, *ancestors(facts.home)):
            if name in evidence.host.concurrency_slices:
                yield own.unit, f"{name} limits how many units it has at a time, and counts the layer of {own.unit}."


CHECK = Check(CODE, find)
