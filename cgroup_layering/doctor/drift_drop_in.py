# SPDX-License-Identifier: LGPL-2.1-or-later
"""drift-drop-in: the drop-in that puts the service into its layer is gone."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence

CODE = Code(
    "drift-drop-in",
    Kind.DRIFT,
    level=Level.WARNING,
    summary="The drop-in that puts the service into its layer is gone.",
    means=(
        "The slice file is there, the drop-in is not. `systemctl revert UNIT` removes all drop-ins of a unit, ours too."
    ),
    matters="A running instance stays in its layer; the next one starts outside.",
    remedy=(
        "Run `cgroup-layering enable UNIT` to layer the service again, or `cgroup-layering disable UNIT` to remove "
        "the slice file too."
    ),
    sources=('systemctl(1), "revert"',),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Layerings that have only their slice file."""
    for own in evidence.own.values():
        if not own.complete:
            yield own.unit, f"{own.drop_in} is gone, so the next instance of {own.unit} starts outside its layer."


CHECK = Check(CODE, find, offline=True)
