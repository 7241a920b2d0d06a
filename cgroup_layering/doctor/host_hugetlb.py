# SPDX-License-Identifier: LGPL-2.1-or-later
"""host-hugetlb: huge pages of hugetlbfs count as memory."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import HOST, Check
from cgroup_layering.doctor.evidence import Evidence

CODE = Code(
    "host-hugetlb",
    Kind.HOST,
    level=Level.NOTE,
    summary="Huge pages of hugetlbfs count as memory.",
    means=(
        "cgroup2 is mounted with memory_hugetlb_accounting, as systemd 259 and later do: pages of hugetlbfs are "
        "charged as all others are."
    ),
    matters=(
        "MemoryMax= and MemoryHigh= of services that use them (databases, virtual machines) cover them too, and "
        "pages of a file in hugetlbfs that outlive an instance stay with its layer. Before, they counted nowhere."
    ),
    remedy="Raise limits that were chosen without them.",
    sources=(
        'Documentation/admin-guide/cgroup-v2.rst in the kernel\'s tree, "Mount options"',
        "NEWS of systemd 259",
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Whether the option is set."""
    if "memory_hugetlb_accounting" in evidence.cgroup_mount.options:
        yield HOST, "cgroup2 is mounted with memory_hugetlb_accounting: pages of hugetlbfs count in memory limits."


CHECK = Check(CODE, find)
