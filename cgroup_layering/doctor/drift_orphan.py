# SPDX-License-Identifier: LGPL-2.1-or-later
"""drift-orphan: the layered service is gone from the host."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence

CODE = Code(
    "drift-orphan",
    Kind.DRIFT,
    level=Level.WARNING,
    summary="The layered service is gone from the host.",
    means="Our files are there, the unit they are for is not: its package was removed, or its file deleted.",
    matters="The files do nothing, until a unit of that name comes back. The layer keeps what was charged to it.",
    remedy="Run `cgroup-layering reap`, as its timer does too; or `cgroup-layering disable UNIT`.",
    sources=("cgroup-layering-reap(8)",),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Layerings without a unit."""
    gone = {own.unit for own, facts in evidence.layered if facts.load_state == "not-found"}
    for unit in sorted({*evidence.missing, *gone}):
        own = evidence.own[unit]
        yield unit, f"{unit} is gone from this host, but {own.slice_file} is still there."


CHECK = Check(CODE, find, offline=True)
