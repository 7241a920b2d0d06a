# SPDX-License-Identifier: LGPL-2.1-or-later
"""risk-path-rule: a rule outside of systemd names a cgroup that a service is not in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.pathrules.reasons import find as wrong_rules

CODE = Code(
    "risk-path-rule",
    Kind.RISK,
    level=Level.WARNING,
    summary="A rule outside of systemd names a cgroup that the service is not in.",
    means=(
        "It is a rule of nftables (`socket cgroupv2`) or iptables (`-m cgroup --path`), in force or in a file that is "
        "loaded at boot, a set that NFTSet= fills, or a bpf program that somebody attached. It names the place where a "
        "layered service was before, or the layer of a service that is not layered."
    ),
    matters="A firewall rule that silently stops matching is a security hole.",
    remedy="Change the rule as the sentence says, or un-layer the service: `cgroup-layering disable UNIT`.",
    sources=("nft(8)", "iptables-extensions(8)"),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Layered services that have escaped a rule, and services that a rule looks for in a layer."""
    host = replace(evidence.host, path_rules=evidence.path_rules)
    for unit, sentence in wrong_rules(host, evidence.all_own):
        if evidence.wanted(unit):
            yield unit, sentence


CHECK = Check(CODE, find, offline=True)
