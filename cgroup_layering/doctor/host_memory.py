# SPDX-License-Identifier: LGPL-2.1-or-later
"""host-memory: the memory controller is off."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import HOST, Check
from cgroup_layering.doctor.evidence import Evidence

CODE = Code(
    "host-memory",
    Kind.HOST,
    level=Level.ERROR,
    summary="The memory controller is off.",
    means="The root cgroup does not offer the memory controller: *cgroup.controllers* does not list it.",
    matters=(
        "Nothing is charged to any cgroup, so there are no charges that a layer could keep, and no memory limits at"
        " all."
    ),
    remedy="Boot without `cgroup_disable=memory` on the kernel's command line.",
    sources=('Documentation/admin-guide/cgroup-v2.rst in the kernel\'s tree, "Controllers"',),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Whether the root cgroup has the memory controller."""
    if "memory" not in evidence.fs.controllers("/"):
        yield HOST, f"{evidence.cgroups}/cgroup.controllers does not list memory: nothing is charged to any cgroup."


CHECK = Check(CODE, find)
