# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole host: what every cgroup is charged for, page by page, beside what the kernel's counters say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cgroup_layering.charges.owners import Owners, unit_of
from cgroup_layering.charges.scan import PageCounts, PageScan, scan_host
from cgroup_layering.errors import KernelFileError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.kernel.pfnfile import PAGE_SIZE

__all__ = ["CgroupCharges", "HostCharges", "PageCounts", "PageScan", "host_charges", "scan_host"]

# Charged in bytes or without a mark on the page, so a scan of pages can't see them.
UNSCANNED = ("slab", "percpu", "sock", "zswap")


@dataclass(frozen=True)
class CgroupCharges:
    """One cgroup: pages charged to itself and to it and everything below, and its counters.

    The counters of the kernel (`memory_*_bytes`, `stat`) are of the whole subtree; they are None and empty
    where the memory controller is off.
    """

    path: str
    inode: int
    unit: str
    own: PageCounts
    subtree: PageCounts
    memory_current_bytes: int | None
    memory_swap_bytes: int | None
    stat: Mapping[str, int]
    dying: int = 0
    """Cgroups below that were removed and whose memory is not all gone (nr_dying_descendants of cgroup.stat).

    The kernel's files name their closest living ancestor in their place.
    """

    @property
    def unscanned_bytes(self) -> int:
        """What memory.stat names that no scan of pages can see: slab, percpu, sock, zswap."""
        return sum(self.stat.get(key, 0) for key in UNSCANNED)

    @property
    def unexplained_bytes(self) -> int | None:
        """memory.current less pages less `unscanned_bytes`; None without memory.current.

        Below zero when pages were freed after they were counted. Processors hold up to 64 charged pages each
        in stock (MEMCG_CHARGE_BATCH), which are nobody's pages yet.
        """
        if self.memory_current_bytes is None:
            return None
        return self.memory_current_bytes - self.subtree.total * PAGE_SIZE - self.unscanned_bytes


@dataclass(frozen=True)
class HostCharges:
    """Every cgroup, parents before their children, and what belongs to none of them."""

    frames: int
    """Page frames of the host."""
    rows: tuple[CgroupCharges, ...]
    unknown: Mapping[int, PageCounts]
    """Pages by inode number of a cgroup that came or went while the host was looked at."""


def _counter(cgroups: CgroupFS, path: str, name: str) -> int | None:
    try:
        return cgroups.read_int(path, name)
    except KernelFileError:  # the controller is off, the root has no such file, or the cgroup has gone
        return None


def _stat(cgroups: CgroupFS, path: str) -> dict[str, int]:
    try:
        return cgroups.stat(path)
    except KernelFileError:
        return {}


def _dying(cgroups: CgroupFS, path: str) -> int:
    try:
        return cgroups.cgroup_stat(path).get("nr_dying_descendants", 0)
    except KernelFileError:
        return 0


def sum_subtrees(own: Mapping[str, PageCounts]) -> dict[str, PageCounts]:
    """For each cgroup path, its own pages and those of everything below it. Pure.

    In: own pages by path, every ancestor included.
    """
    result = dict(own)
    for path in sorted(own, key=lambda name: name.rstrip("/").count("/"), reverse=True):
        if path != "/":
            parent = path.rpartition("/")[0] or "/"
            if parent in result:
                result[parent] = result[parent] + result[path]
    return result


def host_charges(cgroups: CgroupFS, proc: Path = Path("/proc")) -> HostCharges:
    """Scan all pages and read all counters. Raises as scan_host and CgroupFS do."""
    scan = scan_host(proc)
    owners = Owners.scan(cgroups)
    own = {path: PageCounts() for path in owners.paths()}
    unknown: dict[int, PageCounts] = {}
    for inode, counts in scan.cgroups.items():
        path = owners.path(inode)
        if path is None:
            unknown[inode] = counts
        else:
            own[path] = counts
    subtrees = sum_subtrees(own)
    rows = tuple(
        CgroupCharges(
            path=path,
            inode=owners.inode(path) or 0,
            unit=unit_of(path),
            own=own[path],
            subtree=subtrees[path],
            memory_current_bytes=_counter(cgroups, path, "memory.current"),
            memory_swap_bytes=_counter(cgroups, path, "memory.swap.current"),
            stat=_stat(cgroups, path),
            dying=_dying(cgroups, path),
        )
        for path in own
    )
    return HostCharges(scan.frames, rows, unknown)
