# SPDX-License-Identifier: LGPL-2.1-or-later
"""drift-slice-file: the layer's slice file is masked or gone."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.removal import astray
from cgroup_layering.unitfile import UnitFiles, parse
from cgroup_layering.unitpaths import fragment, is_masked

CODE = Code(
    "drift-slice-file",
    Kind.DRIFT,
    level=Level.ERROR,
    summary="The layer's slice file is masked or gone.",
    means="Our drop-in puts the service into a layer whose slice file was masked, removed or replaced.",
    matters=(
        "With a masked slice the service can't start at all. Without the file systemd makes the slice up: it has "
        "none of the limits that the layer took over, and it is stopped early at shutdown, with the service in it."
    ),
    remedy=(
        "Run `cgroup-layering enable UNIT` (after removing the mask or the foreign file), or `cgroup-layering reap`"
        " to un-layer the service."
    ),
    sources=(
        "systemd.slice(5)",
        'systemctl(1), "mask"',
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Drop-ins of ours that lead to no slice file of ours."""
    for path in astray(evidence.store):
        unit = path.parent.name.removesuffix(".d")
        if unit in evidence.all_own or not evidence.wanted(unit):
            continue
        text = evidence.store.own_drop_in(path) or ""
        layer = UnitFiles(parse(text, path)).last("Service", "Slice") or ""
        file = fragment(layer, evidence.reader.dirs)
        if file is None:
            what = "has no file: its limits are off, and shutdown stops it early"
        elif is_masked(layer, evidence.reader.dirs):
            what = "is masked: the service cannot start"
        else:
            what = "has a file that is not ours"
        yield unit, f"{path} puts {unit} into {layer}, which {what}."


CHECK = Check(CODE, find, offline=True)
