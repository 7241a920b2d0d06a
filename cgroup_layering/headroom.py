# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a service that is restarted has room in its layer, beside what can't be reclaimed there."""

from __future__ import annotations

from collections.abc import Mapping

from cgroup_layering.errors import KernelFileError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.naming import slice_path
from cgroup_layering.spans import format_size


def residue(stat: Mapping[str, int]) -> int:
    """Bytes of memory.stat that reclaim can't have; `kernel` has slabs, bpf maps and the rest of kernel memory."""
    kernel = stat.get("kernel", stat.get("slab_unreclaimable", 0) + stat.get("slab_reclaimable", 0))
    # Locked tmpfs pages are in both `shmem` and `unevictable`.
    pages = max(stat.get("shmem", 0), stat.get("unevictable", 0))
    return pages + max(0, kernel - stat.get("slab_reclaimable", 0))


def no_room(fs: CgroupFS, unit: str, layer: str, group: str) -> str:
    """Why `unit`, which runs in `group` now, would not fit into its layer any more; empty if it would.

    What the running instance has by itself goes with it, and the next one is expected to need as much: its anonymous
    memory. What the layer holds beyond the instance stays. A layer that isn't there yet holds nothing.
    """
    try:
        cgroup = slice_path(layer)
        if not fs.exists(cgroup):
            return ""
        bound = fs.read_int(cgroup, "memory.max")
        if bound is None:
            return ""
        stays, needs = residue(fs.stat(cgroup)), 0
        if group and fs.exists(group) and "memory" in fs.controllers(group):
            own = fs.stat(group)
            needs = own.get("anon", 0)
            if group.startswith(f"{cgroup}/"):
                stays -= residue(own)
    except KernelFileError:
        return ""  # a layer that went meanwhile, or one without a memory controller
    if stays <= 0 or stays + needs <= bound:
        return ""
    return (
        f"{unit} is not restarted: {format_size(stays)} in its layer can't be reclaimed, and with the "
        f"{format_size(needs)} that it uses that is more than the layer's memory.max of {format_size(bound)}. "
        f"`cgroup-layering charges {unit}` shows what it is."
    )
