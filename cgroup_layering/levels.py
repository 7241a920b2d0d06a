# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is charged at each level of a tree of cgroups itself: domains, layers, instances. Read from memory.stat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from cgroup_layering.domains.naming import domain_name
from cgroup_layering.errors import KernelFileError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.naming import split_layer

KINDS = ("file", "shmem", "anon", "kernel")


class Level(StrEnum):
    """What a cgroup of the tree is."""

    DOMAIN = "domain"
    LAYER = "layer"
    INSTANCE = "instance"
    UNIT = "unit"
    """Something else that runs in a domain or a layer."""


@dataclass(frozen=True, slots=True)
class Node:
    """One cgroup; bytes. None where the kernel counts nothing for it, or it isn't there."""

    level: Level
    name: str
    cgroup: str
    current_bytes: int | None
    own_bytes: int | None
    """What is charged to the cgroup itself: less what those below it are charged."""
    own: Mapping[str, int]
    """The same by kind; `file` is without `shmem`."""
    children: tuple[Node, ...] = ()


def tree(fs: CgroupFS, cgroup: str, layer_of: str = "") -> Node:
    """The cgroup of a domain or a layer and what is below it, down to the instances.

    `layer_of` is the service whose layer it is in. Cgroups that vanish count as none. The files are read one after the
    other, so busy services can seem to have less than nothing themselves: that is 0.
    """
    name = cgroup.rpartition("/")[2]
    level, shown = _level(name, layer_of)
    leaf = level in (Level.INSTANCE, Level.UNIT)
    children = (
        () if leaf else tuple(tree(fs, child, shown if level is Level.LAYER else "") for child in _children(fs, cgroup))
    )
    current, stat = _current(fs, cgroup), _kinds(fs, cgroup)
    below = [_kinds(fs, child.cgroup) for child in children]
    own = {kind: max(0, stat[kind] - sum(one.get(kind, 0) for one in below)) for kind in stat}
    itself = None if current is None else max(0, current - sum(child.current_bytes or 0 for child in children))
    return Node(level, shown, cgroup, current, itself, own, children)


def outermost(cgroups: Iterable[str]) -> list[str]:
    """Those that are in none of the others, sorted."""
    known = set(cgroups)
    return sorted(one for one in known if not any(one.startswith(f"{other}/") for other in known))


def _level(name: str, layer_of: str) -> tuple[Level, str]:
    domain, layer = domain_name(name), split_layer(name)
    if domain:
        return Level.DOMAIN, domain
    if layer is not None:
        return Level.LAYER, layer[0]
    # systemd puts a `_` before names that could be taken for kernel files (cg_escape).
    instance = bool(layer_of) and name.removeprefix("_") == layer_of.removeprefix("_")
    return (Level.INSTANCE if instance else Level.UNIT), name


def _children(fs: CgroupFS, cgroup: str) -> list[str]:
    try:
        return fs.children(cgroup)
    except KernelFileError:
        return []


def _current(fs: CgroupFS, cgroup: str) -> int | None:
    try:
        return fs.read_int(cgroup, "memory.current")
    except KernelFileError:
        return None


def _kinds(fs: CgroupFS, cgroup: str) -> dict[str, int]:
    try:
        stat = fs.stat(cgroup)
    except KernelFileError:
        return {}
    found = {kind: stat[kind] for kind in KINDS if kind in stat}
    if "file" in found:
        found["file"] = max(0, found["file"] - found.get("shmem", 0))  # `file` includes shmem (cgroup-v2.rst)
    return found
