# SPDX-License-Identifier: LGPL-2.1-or-later
"""drift-outranked: a drop-in that sorts behind ours takes the service out of its layer."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence

CODE = Code(
    "drift-outranked",
    Kind.DRIFT,
    level=Level.ERROR,
    summary="A drop-in that sorts behind ours takes the service out of its layer.",
    means=(
        "Drop-ins apply in the order of their names, whatever folder they are in. One of them sorts behind "
        "*zz-cgroup-layering.conf* and sets Slice=."
    ),
    matters=(
        "The last Slice= wins, so the service starts outside its layer, and its charges go with its instances again."
    ),
    remedy=(
        "Rename the drop-in so that it sorts before ours, or take the line out; or keep it and run `cgroup-layering"
        " disable UNIT`."
    ),
    sources=(
        'systemd.unit(5), "Drop-ins"',
        "src/shared/dropin.c in systemd's tree",
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Services whose Slice= is set behind ours."""
    for own, facts in evidence.layered:
        if facts.obstacle is not None and facts.obstacle.code == "outranked":
            yield own.unit, facts.obstacle.sentence.replace("cannot be layered", "is taken out of its layer")


CHECK = Check(CODE, find, offline=True)
