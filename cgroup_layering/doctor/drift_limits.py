# SPDX-License-Identifier: LGPL-2.1-or-later
"""drift-limits: a setting of the service has no effect, as its layer does not have it."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.doctor.lines import IO_LIMITS, missing

CODE = Code(
    "drift-limits",
    Kind.DRIFT,
    level=Level.WARNING,
    summary="A setting of the service has no effect, as its layer does not have it.",
    means=(
        "Weights compare a cgroup with its siblings, and an instance has none: they count at the layer. In "
        "*service* tracking the memory limits count there too. The setting named came after the service was layered"
        " (an edit, `systemctl set-property`) and the layer does not have it."
    ),
    matters="Whoever set it believes that it holds.",
    remedy="Run `cgroup-layering enable UNIT`, which takes the setting over to the layer.",
    sources=(
        "systemd.resource-control(5)",
        'Documentation/admin-guide/cgroup-v2.rst in the kernel\'s tree, "Weights"',
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Settings that the layer should have and has not."""
    for own, _ in evidence.layered:
        for line in missing(own, evidence.plans[own.unit]):
            if line.key not in IO_LIMITS:
                yield own.unit, f"{line.key}={line.value} ({line.source}) has no effect: {own.layer} does not have it."


CHECK = Check(CODE, find, offline=True)
