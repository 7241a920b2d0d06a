# SPDX-License-Identifier: LGPL-2.1-or-later
"""host-oomd: systemd-oomd can kill layered services."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import HOST, Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.model import Tracking
from cgroup_layering.naming import ancestors

CODE = Code(
    "host-oomd",
    Kind.HOST,
    level=Level.NOTE,
    summary="systemd-oomd can kill layered services.",
    means=(
        "A slice above layered services has ManagedOOMSwap=kill, ManagedOOMMemoryPressure=kill or OOMRules= with a "
        "rule set whose action is not kill-all, so systemd-oomd(8) chooses among what is below it. Debian 12's "
        "systemd-oomd package sets the first on *-.slice*."
    ),
    matters=(
        "In *instance* tracking services are chosen as before. In *service* tracking a service is no candidate: it "
        "has no memory figures of its own, so others are killed in its place. Layers have "
        "ManagedOOMPreference=omit, so that empty ones are not chosen (see *risk-oomd*)."
    ),
    remedy=(
        "Nothing is to be done where all services have *instance* tracking. Take that for the others: "
        "`cgroup-layering enable --tracking instance UNIT`."
    ),
    sources=(
        "systemd-oomd.service(8)",
        "src/oom/oomd-manager.c in systemd's tree",
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The slices that have it, and which services below are no candidates."""
    kill = evidence.host.oom_kill_units
    for name, setting in kill.items():
        below = [
            own.unit
            for own, facts in evidence.layered
            if own.tracking is Tracking.SERVICE and name in (facts.home, *ancestors(facts.home))
        ]
        left = f"; no candidates are, for their `service` tracking, {', '.join(below)}" if below else ""
        yield HOST, f"{name} has {setting}: systemd-oomd chooses among the services below it{left}."


CHECK = Check(CODE, find)
