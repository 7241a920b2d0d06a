# SPDX-License-Identifier: LGPL-2.1-or-later
"""host-cgroup2: the host does not have cgroup v2 alone."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import HOST, Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.errors import HostUnsuitable
from cgroup_layering.kernel.cgroupfs import CgroupFS

CODE = Code(
    "host-cgroup2",
    Kind.HOST,
    level=Level.ERROR,
    summary="The host does not have cgroup v2 alone.",
    means="Nothing at */sys/fs/cgroup*, or a mix of v1 and v2, where layers need the unified hierarchy.",
    matters="With v1 or a hybrid, memory is not counted where systemd has its slices, so layers keep no charges.",
    remedy=(
        "Boot without `systemd.unified_cgroup_hierarchy=0` and `systemd.legacy_systemd_cgroup_controller` on the "
        "kernel's command line."
    ),
    sources=(
        'systemd(1), "Kernel Command Line"',
        "cgroups(7)",
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Whether there is a pure cgroup2 hierarchy."""
    try:
        CgroupFS(evidence.cgroups)
    except HostUnsuitable as error:
        yield HOST, str(error)


CHECK = Check(CODE, find)
