# SPDX-License-Identifier: LGPL-2.1-or-later
"""host-reparenting: this kernel hands the pages of a dying cgroup to its parent at once."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import HOST, Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.kernel.release import kernel_version

CODE = Code(
    "host-reparenting",
    Kind.HOST,
    level=Level.NOTE,
    summary="This kernel hands the pages of a dying cgroup to its parent at once.",
    means=(
        "From Linux 7.1 on, what is charged to a cgroup that is removed becomes its parent's in the same moment, "
        "and the cgroup is freed. Before, pages stayed charged to a dying cgroup until they were reclaimed."
    ),
    matters=(
        "Dying cgroups do not pile up below layers, so *instance* tracking costs no more than *service* tracking in"
        " this. Tools that count them (`nr_dying_descendants`) show next to nothing."
    ),
    remedy="Nothing is to be done.",
    sources=(
        'Documentation/admin-guide/cgroup-v2.rst in the kernel\'s tree, "Memory Ownership"',
        "mm/memcontrol.c in the kernel's tree",
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Whether the kernel reparents."""
    release = evidence.release
    if kernel_version(release) >= (7, 1):
        yield HOST, f"Linux {release} hands the pages of a dying cgroup to its parent at once."


CHECK = Check(CODE, find)
