# SPDX-License-Identifier: LGPL-2.1-or-later
"""The whole host in rows that add up: each charged page is in exactly one of them. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cgroup_layering.charges.host import UNSCANNED, CgroupCharges, HostCharges
from cgroup_layering.charges.owners import unit_of
from cgroup_layering.charges.scan import PageCounts
from cgroup_layering.domains.naming import domain_name
from cgroup_layering.kernel.pfnfile import PAGE_SIZE
from cgroup_layering.naming import split_layer


class Kind(StrEnum):
    """What a row stands for."""

    LAYER = "layer"
    UNIT = "unit"
    SLICE = "slice"
    """A slice by itself, what is inside it left out: charged to no living service."""
    DOMAIN = "domain"
    """A domain by itself: what its services share, and what layers that are gone left in it."""
    GONE = "gone"
    """Cgroups that came or went while the host was looked at."""


@dataclass(frozen=True)
class HostRow:
    """One layer, one unit outside of layers, or a slice by itself."""

    cgroup: str
    unit: str
    service: str
    """The service that a layer belongs to; empty for others."""
    kind: Kind
    pages: PageCounts
    current_bytes: int | None
    swap_bytes: int | None
    dying: int
    stat: Mapping[str, int] = field(default_factory=dict)

    @property
    def domain(self) -> str:
        """The domain that it is, or is in; empty for none."""
        parts = [domain_name(part) for part in self.cgroup.split("/")]
        return next((name for name in reversed(parts) if name), "")

    @property
    def kernel_bytes(self) -> int:
        """Kernel memory: pages that are neither file nor anonymous, and what memory.stat alone knows."""
        return self.pages.other * PAGE_SIZE + sum(self.stat.get(key, 0) for key in UNSCANNED)

    @property
    def unexplained_bytes(self) -> int | None:
        """memory.current less all that was found; None without memory.current. See CgroupCharges."""
        if self.current_bytes is None:
            return None
        found = (self.pages.total - self.pages.other) * PAGE_SIZE + self.kernel_bytes
        return self.current_bytes - found

    @property
    def weight_bytes(self) -> int:
        """What to sort by: memory.current, or the pages where the kernel counts nothing."""
        return self.pages.total * PAGE_SIZE if self.current_bytes is None else self.current_bytes


def is_layer(cgroup: str) -> str:
    """The service that a cgroup's path names as its layer; empty if it is no layer."""
    found = split_layer(cgroup.rpartition("/")[2])
    return found[0] if found else ""


def host_rows(charges: HostCharges) -> list[HostRow]:
    """Rows in the order of the tree. The pages of all rows together are the charged pages of the host."""
    children: dict[str, list[CgroupCharges]] = {}
    for row in charges.rows:
        if row.path != "/":
            children.setdefault(row.path.rpartition("/")[0] or "/", []).append(row)
    found: list[HostRow] = []
    waiting = [row for row in charges.rows if row.path == "/"]
    while waiting:
        row = waiting.pop()
        service = is_layer(row.path)
        if service or not (row.path == "/" or row.path.endswith(".slice")):
            kind = Kind.LAYER if service else Kind.UNIT
            found.append(
                HostRow(
                    row.path, row.unit, service, kind, row.subtree,
                    row.memory_current_bytes, row.memory_swap_bytes, row.dying, row.stat,
                )
            )  # fmt: skip
            continue
        inside = children.get(row.path, [])
        found.append(_by_itself(row, inside))
        waiting.extend(reversed(inside))
    gone = sum(charges.unknown.values(), PageCounts())
    if gone.total:
        found.append(HostRow("", "", "", Kind.GONE, gone, None, None, 0))
    return found


def _by_itself(row: CgroupCharges, inside: Iterable[CgroupCharges]) -> HostRow:
    """A slice less its children: the kernel's counters are of whole subtrees."""
    inside = tuple(inside)
    stat = {
        key: max(0, value - sum(child.stat.get(key, 0) for child in inside))  # the files are read one by one
        for key, value in row.stat.items()
    }
    dying = row.dying - sum(child.dying for child in inside)
    return HostRow(
        cgroup=row.path,
        unit=unit_of(row.path),
        service="",
        kind=Kind.DOMAIN if domain_name(row.path.rpartition("/")[2]) else Kind.SLICE,
        pages=row.own,
        current_bytes=_less(row.memory_current_bytes, [child.memory_current_bytes for child in inside]),
        swap_bytes=_less(row.memory_swap_bytes, [child.memory_swap_bytes for child in inside]),
        dying=max(0, dying),
        # The root's memory.stat counts the whole host, also what no cgroup pays for.
        stat=stat if row.memory_current_bytes is not None else {},
    )


def _less(total: int | None, parts: Iterable[int | None]) -> int | None:
    return None if total is None else max(0, total - sum(part or 0 for part in parts))
