# SPDX-License-Identifier: LGPL-2.1-or-later
"""drift-controller: the memory controller is on at the instance, though the tracking is `service`."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.askers import askers
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.errors import KernelFileError
from cgroup_layering.model import Tracking
from cgroup_layering.survey import Place, place_of

CODE = Code(
    "drift-controller",
    Kind.DRIFT,
    level=Level.WARNING,
    summary="The memory controller is on at the instance, though the tracking is `service`.",
    means=(
        "In *service* tracking only the layer counts memory. One loaded unit in the layer's slice that wants memory"
        " accounting switches the controller on for all of them: the service itself (after `systemctl "
        "set-property`), its socket, a unit that was put into the slice."
    ),
    matters=(
        "New charges go to the instance and are handed to the layer when it ends, so first and later instances are "
        "charged differently, and restarts leave dying cgroups, as in *instance* tracking."
    ),
    remedy=(
        "Take the named setting back; a `systemctl daemon-reload` lets our drop-in win again. Or choose "
        "`cgroup-layering enable --tracking instance UNIT`."
    ),
    sources=("src/core/cgroup.c in systemd's tree, `unit_get_members_mask`",),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Services with the controller on where it should be off, and who switched it on."""
    for own, facts in evidence.layered:
        if own.tracking is not Tracking.SERVICE or place_of(facts, own.layer, evidence.fs) is not Place.IN_LAYER:
            continue
        try:
            controllers = evidence.fs.controllers(facts.control_group)
        except KernelFileError:
            continue  # it has just ended
        if "memory" in controllers:
            who = ", ".join(askers(evidence.manager, own.layer)) or "no unit that systemd knows"
            yield own.unit, f"The memory controller is on at the instance of {own.unit}, switched on by {who}."


CHECK = Check(CODE, find)
