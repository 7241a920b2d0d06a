# SPDX-License-Identifier: LGPL-2.1-or-later
"""host-kernel: this kernel can hang when a cgroup is removed."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import HOST, Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.errors import HostUnsuitable
from cgroup_layering.kernel.release import check_kernel

CODE = Code(
    "host-kernel",
    Kind.HOST,
    level=Level.ERROR,
    summary="This kernel can hang when a cgroup is removed.",
    means=(
        "Linux 6.19.11 to the end of 6.19 and 7.0.0 to 7.0.8 can wait for ever for dying tasks in "
        "*cgroup_drain_dying*, while they hold a lock of cgroups."
    ),
    matters=(
        "systemd removes a cgroup with each instance that ends: PID 1 can hang, and the host with it, layered or "
        "not. `reap` removes no layer on such a kernel."
    ),
    remedy="Boot Linux 7.0.9, 7.1 or later, or one before 6.19.11.",
    sources=("kernel/cgroup/cgroup.c in the kernel's tree",),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Whether this is one of the kernels that hang."""
    release = evidence.release
    try:
        check_kernel(release)
    except HostUnsuitable:
        yield HOST, f"Linux {release} can hang for ever when a cgroup is removed, as systemd does at each stop."


CHECK = Check(CODE, find)
