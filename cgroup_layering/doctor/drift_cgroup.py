# SPDX-License-Identifier: LGPL-2.1-or-later
"""drift-cgroup: an empty layer without files is still there."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.naming import slice_path, split_layer
from cgroup_layering.spans import format_size
from cgroup_layering.unitpaths import fragment

CODE = Code(
    "drift-cgroup",
    Kind.DRIFT,
    level=Level.NOTE,
    summary="An empty layer without files is still there.",
    means=(
        "The service was un-layered or removed while it ran. Its layer has run empty since, and no file of ours "
        "describes it."
    ),
    matters=(
        "It keeps what was charged to it. It goes with the next `disable`, `rollback` or `reap`, or with the next boot."
    ),
    remedy="Run `cgroup-layering reap`.",
    sources=(
        "cgroup-layering-disable(8)",
        "cgroup-layering-reap(8)",
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Empty cgroups that bear the name of a layer, and are none."""
    layers = {own.layer for own in evidence.all_own.values()}
    for path in [entry.path for entry in evidence.fs.walk() if entry.path.endswith(".service.slice")]:
        layer = path.rpartition("/")[2]
        named = split_layer(layer)
        if named is None or layer in layers or not evidence.wanted(named[0]):
            continue
        if path != slice_path(layer) or evidence.fs.events(path).get("populated"):
            continue
        # Somebody else's slice can have such a name.
        if fragment(layer, evidence.reader.dirs) is None:
            size = format_size(evidence.fs.read_int(path, "memory.current") or 0)
            yield named[0], f"{path} is a layer without files, empty, with {size} charged to it."


CHECK = Check(CODE, find)
