# SPDX-License-Identifier: LGPL-2.1-or-later
"""risk-oom-policy: oOMPolicy= has no effect in `service` tracking."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.model import Tracking
from cgroup_layering.trackings import accounting_off

CODE = Code(
    "risk-oom-policy",
    Kind.RISK,
    level=Level.WARNING,
    summary="OOMPolicy= has no effect in `service` tracking.",
    means=(
        "The service has OOMPolicy=stop (the default) or kill, and *service* tracking: systemd sees no OOM kill of "
        "it, as the instance has no memory controller."
    ),
    matters=(
        "When the kernel kills one of its processes for lack of memory, the others live on: the service can be half"
        " dead and still count as active."
    ),
    remedy=(
        "Set OOMPolicy=continue in a drop-in where that is what the service does anyway, or run `cgroup-layering "
        "enable --tracking instance UNIT`."
    ),
    sources=(
        'systemd.service(5), "OOMPolicy="',
        "src/core/cgroup.c in systemd's tree, `unit_watch_cgroup_memory`",
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Services whose policy is lost; without accounting of their own they had none to lose."""
    for own, facts in evidence.layered:
        if own.tracking is not Tracking.SERVICE or facts.oom_policy == "continue" or facts.load_state != "loaded":
            continue
        if not accounting_off(facts, evidence.host.version):
            yield own.unit, f"OOMPolicy={facts.oom_policy} of {own.unit} has no effect in `service` tracking."


CHECK = Check(CODE, find, offline=True)
