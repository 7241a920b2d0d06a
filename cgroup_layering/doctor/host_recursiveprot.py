# SPDX-License-Identifier: LGPL-2.1-or-later
"""host-recursiveprot: memory protection does not reach below the cgroup that has it."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import HOST, Check
from cgroup_layering.doctor.evidence import Evidence

CODE = Code(
    "host-recursiveprot",
    Kind.HOST,
    level=Level.WARNING,
    summary="Memory protection does not reach below the cgroup that has it.",
    means=(
        "cgroup2 is mounted without the option memory_recursiveprot, which systemd asks for where it makes the mount."
    ),
    matters=(
        "MemoryMin= and MemoryLow= of a slice do not protect what runs further down. A layer is one more level, so "
        "protection that a slice above gave to a service can end at the layer."
    ),
    remedy=(
        "Look for what mounts or remounts */sys/fs/cgroup* (an initrd, a container manager), or run `mount -o "
        "remount,nsdelegate,memory_recursiveprot /sys/fs/cgroup`."
    ),
    sources=(
        'Documentation/admin-guide/cgroup-v2.rst in the kernel\'s tree, "Mount options"',
        "src/shared/mount-setup.c in systemd's tree",
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Whether protection is recursive."""
    mount = evidence.cgroup_mount
    if "memory_recursiveprot" not in mount.options:
        yield HOST, f"cgroup2 at {mount.point} is mounted without memory_recursiveprot: protection ends at its cgroup."


CHECK = Check(CODE, find)
