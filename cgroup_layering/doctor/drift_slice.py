# SPDX-License-Identifier: LGPL-2.1-or-later
"""drift-slice: systemd does not have the service in its layer."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence

CODE = Code(
    "drift-slice",
    Kind.DRIFT,
    level=Level.ERROR,
    summary="systemd does not have the service in its layer.",
    means=(
        "Both of our files are there, and nothing is seen to beat them, but systemd's Slice= of the service is another."
    ),
    matters="The service's next instance starts outside its layer.",
    remedy=(
        "Run `systemctl daemon-reload`. If that does not help, `systemctl cat UNIT` and the journal of PID 1 show "
        "which line systemd ignored, and why."
    ),
    sources=(
        'systemd.resource-control(5), "Slice="',
        "src/core/load-fragment.c in systemd's tree, `config_parse_unit_slice`",
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Services that systemd has in another slice."""
    for own, facts in evidence.layered:
        if own.complete and facts.obstacle is None and facts.slice not in ("", own.layer):
            yield own.unit, f"systemd has {own.unit} in {facts.slice}, though {own.drop_in} says {own.layer}."


CHECK = Check(CODE, find)
