# SPDX-License-Identifier: LGPL-2.1-or-later
"""Strays: pages of a service's own files that are charged outside its layer, counted page by page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cgroup_layering.charges.usage import Target, Usage, each_usage
from cgroup_layering.kernel.cgroupfs import CgroupFS


@dataclass(frozen=True, slots=True)
class LayerPages:
    """The resident pages of a service's own files, those that nobody else maps."""

    files: int = 0
    charged: int = 0
    """Pages charged to the layer or to something inside it."""
    strays: Mapping[str, int] = field(default_factory=dict)
    """Pages charged elsewhere, by cgroup; "none" for those that no cgroup pays for."""
    unreadable: int = 0
    raced: int = 0

    @property
    def stray_pages(self) -> int:
        """Pages charged outside the layer, in all."""
        return sum(self.strays.values())


def layer_pages(targets: Iterable[Target], fs: CgroupFS) -> dict[str, LayerPages]:
    """The pages of these services, by unit: sums of what `charges UNIT` shows of each. Raises as `each_usage` does."""
    return {usage.target.unit: _sums(usage) for usage in each_usage(targets, fs)}


def _sums(usage: Usage) -> LayerPages:
    own = [used for used in usage.files if not used.shared_with]
    return LayerPages(
        len(own),
        sum(used.inside_pages for used in own),
        {owner.cgroup or "none": owner.pages for owner in usage.strays()},
        len(usage.unreadable),
        sum(used.row.raced_pages for used in own),
    )
