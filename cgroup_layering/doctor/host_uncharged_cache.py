# SPDX-License-Identifier: LGPL-2.1-or-later
"""host-uncharged-cache: a file system's cache is charged to no cgroup."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import HOST, Check
from cgroup_layering.doctor.evidence import Evidence

CODE = Code(
    "host-uncharged-cache",
    Kind.HOST,
    level=Level.NOTE,
    summary="A file system's cache is charged to no cgroup.",
    means=(
        "ZFS keeps what it caches in the ARC, outside the page cache, and DAX has no cache at all: files on such "
        "mounts are charged to nobody, layered or not."
    ),
    matters=(
        "`status`, `charges` and memory limits don't see what a service reads and writes there. (For DAX there is "
        "nothing to see; with *dax=inode* it depends on the file.)"
    ),
    remedy="Bound the ARC by *zfs_arc_max*. Put files whose cache should count on another file system.",
    sources=(
        "Documentation/filesystems/dax.rst in the kernel's tree",
        "zfs(4)",
    ),
)


_DAX = frozenset(("dax", "dax=always"))


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The mounts whose cache nobody pays for."""
    for mount in evidence.mounts:
        if mount.kind == "zfs":
            yield HOST, f"What is cached of {mount.point} (zfs) is in the ARC, which is charged to no cgroup."
        elif mount.options & _DAX:
            yield (
                HOST,
                f"Files on {mount.point} ({mount.kind}, dax) have no page cache, so nothing is charged for them.",
            )


CHECK = Check(CODE, find)
