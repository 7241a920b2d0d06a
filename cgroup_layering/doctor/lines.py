# SPDX-License-Identifier: LGPL-2.1-or-later
"""Settings that count only at the layer, and that the layer's slice file does not have."""

from __future__ import annotations

from cgroup_layering.controls import DIRECTIVES, Handling
from cgroup_layering.model import Lifted, OwnFiles, ServicePlan, Tracking
from cgroup_layering.unitfile import parse

IO_LIMITS = frozenset(
    name for name in DIRECTIVES if name.startswith(("IORead", "IOWrite", "BlockIORead", "BlockIOWrite"))
)
"""Limits that need the cgroup which the memory is charged to."""


def missing(own: OwnFiles, service: ServicePlan) -> list[Lifted]:
    """The lines that a layering should have in its slice file now, lacks, and that do nothing at the service."""
    if service.layering is None:
        return []
    there = {(s.key, s.value) for s in parse(own.slice_text, own.slice_file) if s.section == "Slice"}
    return [
        line
        for line in service.layering.lifted
        if (line.key, line.value) not in there and (own.tracking is Tracking.SERVICE or _counts_among_siblings(line))
    ]


def _counts_among_siblings(line: Lifted) -> bool:
    """In `instance` tracking memory limits stay in force at the service too; what else is copied compares siblings."""
    return DIRECTIVES[line.key].instance is Handling.COPY and "Memory" not in line.key
