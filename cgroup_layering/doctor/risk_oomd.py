# SPDX-License-Identifier: LGPL-2.1-or-later
"""risk-oomd: systemd-oomd can choose the empty layer for ever."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.naming import slice_path
from cgroup_layering.spans import format_size

CODE = Code(
    "risk-oomd",
    Kind.RISK,
    level=Level.WARNING,
    summary="systemd-oomd can choose the empty layer for ever.",
    means=(
        "The layer is empty but has charges, and it lacks the mark of ManagedOOMPreference=omit (the extended "
        "attribute *user.oomd_omit*), which every layer of ours has."
    ),
    matters=(
        "systemd-oomd(8) can take it for the largest consumer, kills nobody in it, and chooses it again: the real "
        "one lives on until the kernel kills somebody."
    ),
    remedy=(
        "Look for a drop-in that sets ManagedOOMPreference= on the slice (`systemctl cat LAYER`), then run "
        "`cgroup-layering enable UNIT` and `systemctl daemon-reload`."
    ),
    sources=(
        'systemd.resource-control(5), "ManagedOOMPreference="',
        "src/oom/oomd-util.c in systemd's tree",
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Empty layers with charges that oomd does not pass over."""
    for own in evidence.own.values():
        layer = slice_path(own.layer)
        if not evidence.fs.exists(layer) or evidence.fs.events(layer).get("populated"):
            continue
        charged = evidence.fs.read_int(layer, "memory.current") or 0
        if charged and not evidence.omitted(layer):
            yield own.unit, f"{own.layer} is empty, holds {format_size(charged)}, and oomd is not told to pass it over."


CHECK = Check(CODE, find)
