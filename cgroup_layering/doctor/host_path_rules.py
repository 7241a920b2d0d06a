# SPDX-License-Identifier: LGPL-2.1-or-later
"""host-path-rules: it is not known of all rules on cgroups whether they concern layered services."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import HOST, Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.pathrules.reasons import host_notes

CODE = Code(
    "host-path-rules",
    Kind.HOST,
    level=Level.NOTE,
    summary="It is not known of all rules on cgroups whether they concern layered services.",
    means=(
        "Services are layered, and a rule of a firewall has a set that is empty now, a variable that is not defined, "
        "or a cgroup that has gone; or root rights or a tool are missing, so that rules in force were not seen."
    ),
    matters="A rule that names the former cgroup of a layered service matches nothing (see *risk-path-rule*).",
    remedy="Look at the rule that the sentence names, or run the command as root.",
    sources=("nft(8)", "iptables-extensions(8)"),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """What could not be looked at, and rules that don't tell whom they name."""
    for note in host_notes(replace(evidence.host, path_rules=evidence.path_rules)) if evidence.all_own else ():
        yield HOST, note.sentence


CHECK = Check(CODE, find, offline=True)
