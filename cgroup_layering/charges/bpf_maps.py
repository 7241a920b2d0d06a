# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every bpf map of the host: what it is, who holds it, and which cgroup pays for it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgroup_layering.charges.processes import PROC, all_pids
from cgroup_layering.kernel.bpf import BpfUnavailable, list_maps, map_owners

__all__ = ["BpfMap", "BpfUnavailable", "bpf_maps"]


@dataclass(frozen=True)
class BpfMap:
    """One bpf map."""

    id: int
    name: str
    """At most 15 characters; empty if it was given none."""
    type: str
    """As bpftool(8) names it, such as `hash`; a number for a type that bpftool doesn't know."""
    memlock_bytes: int
    """The kernel's own estimate (`memlock` in fdinfo), 0 if it gives none: not what is charged.

    Before Linux 6.4 it is made from the sizes of keys and values alone (bpf_map_memory_footprint() in
    kernel/bpf/syscall.c), since then each type of map adds up what it allocated (`map_mem_usage`); neither counts what
    the allocator adds.
    """
    owner: int
    """Inode number of the folder of the cgroup that is charged; 0 is none, as for what the root cgroup made."""
    pins: tuple[Path, ...]
    """Its names in bpf file systems."""
    pids: tuple[int, ...]
    """Processes that have it open. Programs and links hold maps too, so none need be here."""


def parse_maps(
    shown: Iterable[Mapping[str, Any]], owners: Mapping[int, int], holders: Mapping[int, Iterable[int]]
) -> tuple[BpfMap, ...]:
    """What bpftool shows, who is charged and who holds it (process ids), put together by map id. Pure.

    A map that is in one of the first two only came or went between the readings and is left out.
    """
    maps = [
        BpfMap(
            id=one["id"],
            name=one.get("name", ""),
            type=str(one["type"]),
            memlock_bytes=int(one.get("bytes_memlock", 0)),
            owner=owners[one["id"]],
            pins=tuple(sorted(map(Path, one.get("pinned", ())))),
            pids=tuple(sorted(holders.get(one["id"], ()))),
        )
        for one in shown
        if one["id"] in owners
    ]
    return tuple(sorted(maps, key=lambda one: one.id))


def map_holders(proc: Path = PROC) -> dict[int, set[int]]:
    """Process ids by the id of the bpf maps that they have open, from /proc/PID/fdinfo (`map_id`).

    bpftool names processes only where it was built with skeletons, and Debian's is not (`bpftool version`).
    Processes and descriptors that vanish meanwhile, or are closed to the caller, add nothing.
    """
    found: dict[int, set[int]] = {}
    for pid in all_pids(proc):
        folder = proc / str(pid) / "fd"
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            try:
                # fdinfo is slow to make and other descriptors are many
                if str((folder / name).readlink()) != "anon_inode:bpf-map":
                    continue
                text = (proc / str(pid) / "fdinfo" / name).read_text()
            except OSError:
                continue
            for line in text.splitlines():
                key, _, value = line.partition(":")
                if key == "map_id":
                    found.setdefault(int(value), set()).add(pid)
    return found


def bpf_maps(proc: Path = PROC) -> tuple[BpfMap, ...]:
    """All bpf maps that were there all the while, by id. Raises BpfUnavailable."""
    owners = map_owners()
    return parse_maps(list_maps(), owners, map_holders(proc))
