# SPDX-License-Identifier: LGPL-2.1-or-later
"""Charges for programs: the JSON of `charges`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from cgroup_layering.charges.bpf_maps import BpfMap
from cgroup_layering.charges.contents import Contents
from cgroup_layering.charges.host import HostCharges
from cgroup_layering.charges.hostrows import HostRow
from cgroup_layering.charges.listing import FileRow, Owner
from cgroup_layering.charges.owners import Owners
from cgroup_layering.charges.scan import PageCounts
from cgroup_layering.charges.usage import Usage, UsedFile, map_owner
from cgroup_layering.kernel.pfnfile import PAGE_SIZE

_STAT = ("anon", "file", "shmem", "kernel", "kernel_stack", "pagetables", "percpu", "sock", "vmalloc", "slab", "zswap")


def _pages_json(pages: PageCounts) -> dict[str, int]:
    return {**asdict(pages), "total": pages.total}


def host_json(charges: HostCharges, rows: Sequence[HostRow]) -> dict[str, object]:
    """`rows` as in the table, and `cgroups`, every one with its own pages and those of its subtree."""
    return {
        "page_bytes": PAGE_SIZE,
        "frames": charges.frames,
        "rows": [
            {
                "kind": row.kind,
                "cgroup": row.cgroup or None,
                "unit": row.unit or None,
                "service": row.service or None,
                "domain": row.domain or None,
                "pages": _pages_json(row.pages),
                "kernel_bytes": row.kernel_bytes,
                "unexplained_bytes": row.unexplained_bytes,
                "memory_current_bytes": row.current_bytes,
                "memory_swap_bytes": row.swap_bytes,
                "dying": row.dying,
            }
            for row in rows
        ],
        "cgroups": [
            {
                "cgroup": row.path,
                "unit": row.unit,
                "own_pages": _pages_json(row.own),
                "pages": _pages_json(row.subtree),
                "memory_current_bytes": row.memory_current_bytes,
                "memory_swap_bytes": row.memory_swap_bytes,
                "memory_stat": {key: row.stat[key] for key in _STAT if key in row.stat},
                "unexplained_bytes": row.unexplained_bytes,
                "dying": row.dying,
            }
            for row in charges.rows
        ],
        "gone_pages": sum(counts.total for counts in charges.unknown.values()),
    }


def owner_json(owner: Owner) -> dict[str, object]:
    """Who pays; cgroup and unit are null for none."""
    pages = owner.pages
    return {"cgroup": owner.cgroup or None, "unit": owner.unit or None, "pages": pages, "bytes": pages * PAGE_SIZE}


def file_json(row: FileRow) -> dict[str, object]:
    """One file."""
    return {
        "path": row.path,
        "size_bytes": row.size_bytes,
        "resident_pages": row.resident_pages,
        "raced_pages": row.raced_pages,
        "owners": [owner_json(owner) for owner in row.owners],
    }


def usage_json(usage: Usage, files: Sequence[UsedFile], owners: Owners) -> dict[str, object]:
    """One service; `home` is null where it has no cgroup."""
    return {
        "unit": usage.target.unit,
        "home": usage.target.home or None,
        "inside_pages": usage.inside_pages,
        "shared_pages": usage.shared_pages,
        "stray_pages": sum(owner.pages for owner in usage.strays()),
        "strays": [owner_json(owner) for owner in usage.strays()],
        "files": [
            {
                **file_json(used.row),
                "uses": sorted(used.uses),
                "deleted": used.deleted,
                "shared_with": list(used.shared_with),
                "inside_pages": used.inside_pages,
            }
            for used in files
        ],
        "bpf_maps": [map_json(one, owners) for one in usage.maps],
        "vanished": usage.vanished,
        "unreadable": usage.unreadable,
    }


def map_json(one: BpfMap, owners: Owners) -> dict[str, object]:
    """A bpf map."""
    owner = map_owner(one, owners)
    return {
        "id": one.id,
        "name": one.name,
        "type": one.type,
        "memlock_bytes": one.memlock_bytes,
        "cgroup": owner.cgroup or None,
        "unit": owner.unit or None,
        "pins": [str(pin) for pin in one.pins],
        "pids": list(one.pids),
    }


def contents_json(found: Contents, top: int) -> dict[str, object]:
    """What is charged to a cgroup."""
    return {
        "cgroup": found.cgroup,
        "recursive": found.recursive,
        "memory_current_bytes": found.current_bytes,
        "file_pages": found.file_pages,
        "named_pages": found.named_pages,
        "unnamed_pages": found.unnamed_pages,
        "unexplained_bytes": found.unexplained_bytes,
        "files": found.files,
        "objects": [
            {"kind": one.thing, "name": one.name, "bytes": one.size_bytes} for one in found.largest[: top or None]
        ],
    }
