# SPDX-License-Identifier: LGPL-2.1-or-later
"""drift-stale: our files are out of date."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.doctor.lines import missing
from cgroup_layering.model import Change

CODE = Code(
    "drift-stale",
    Kind.DRIFT,
    level=Level.WARNING,
    summary="Our files are out of date.",
    means=(
        "The unit has changed since it was layered (an edit, a package, another release of systemd), and our files "
        "would be written differently now."
    ),
    matters=(
        "The layer may lack a limit, have one that was taken back, or be of another tracking than the unit needs now."
    ),
    remedy="Run `cgroup-layering enable UNIT`; `cgroup-layering plan UNIT` shows what would change.",
    sources=("cgroup-layering-plan(8)",),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Layerings whose files would be written differently, where no other check names the line."""
    for own, _ in evidence.layered:
        service = evidence.plans[own.unit]
        if own.complete and service.change is Change.UPDATE and not missing(own, service):
            yield own.unit, f"The files of {own.unit} have changed since it was layered; its layer does not follow."


CHECK = Check(CODE, find, offline=True)
