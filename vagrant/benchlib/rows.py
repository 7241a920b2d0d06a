# SPDX-License-Identifier: LGPL-2.1-or-later
"""From samples to rows: medians, ratios, bounds. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True)
class Bound:
    """The largest ratio of ours to the peer that is good enough."""

    ratio: float
    peer: str
    """What the peer is, in words."""


BOUNDS: Mapping[str, Bound] = {
    "charges.host.vs-dd": Bound(1.5, "dd of kpagecgroup + dd of kpageflags"),
    "charges.host.vs-page-types": Bound(1.0, "page-types -C -l"),
    "charges.file.vs-page-types": Bound(0.5, "page-types -f FILE -C -l, 512 MiB"),
    "charges.tree.vs-fincore": Bound(1.0, "fincore FILE..., 10,000 files"),
    "charges.rss": Bound(1.0, "64 MiB"),
    # Linear is 1, squared would be 4, as the size is fourfold; what is between is for noise.
    "charges.growth": Bound(1.5, "the same in four parts, one after the other"),
    "cli.start": Bound(1.5, "python3 -c 'import click'"),
    "restart.layered-vs-plain": Bound(1.05, "systemctl restart of the same service, not layered"),
    "fault.nested-vs-flat": Bound(round(1 / 0.98, 3), "the same page faults in the cgroup of a service, not layered"),
    "plan.growth": Bound(11, "plan of 100 services instead of 1,000"),
    "plan.1000.vs-systemctl-show": Bound(1.0, "systemctl show '*.service', of the same 1,000 and the host's own"),
    "plan.rss": Bound(1.0, "80 MiB"),
    "migrate.1000.vs-shell": Bound(1.5, "a shell that writes the same files, and one systemctl daemon-reload"),
    "migrate.noop.vs-plan": Bound(1.1, "plan of the same 1,000 services"),
    "reload.1000": Bound(1.3, "systemctl daemon-reload without the 1,000 layers"),
    "layer.kernel-memory": Bound(1.0, "40 KiB"),
    "boot.layered-vs-plain": Bound(1.05, "the same host, not layered"),
    "shutdown.vs-plain": Bound(1.1, "the same host, not layered"),
}
SCALE = frozenset(
    {
        "restart.layered-vs-plain",
        "fault.nested-vs-flat",
        "plan.growth",
        "plan.1000.vs-systemctl-show",
        "plan.rss",
        "migrate.1000.vs-shell",
        "migrate.noop.vs-plan",
        "reload.1000",
        "layer.kernel-memory",
    }
)
"""Taken by benchguest.scale, on a host with a thousand services."""
BY_NAME = frozenset({"boot.layered-vs-plain", "shutdown.vs-plain"})
"""Taken only when named: they take a dozen reboots and eighteen shutdowns."""


@dataclass(frozen=True)
class Row:
    """One measure: medians of ours and the peer, the median ratio of the pairs, and whether that is within bounds."""

    name: str
    ours: float
    peer: float
    unit: str
    ratio: float
    bound: float
    ok: bool

    def as_json(self) -> dict[str, object]:
        """For build/bench.json; figures have the digits that they deserve."""
        return asdict(self) | {"ours": _short(self.ours), "peer": _short(self.peer), "ratio": round(self.ratio, 3)}


def row_of(name: str, unit: str, ours: Sequence[float], peer: Sequence[float]) -> Row:
    """A row from the samples of ours and of the peer. Raises KeyError for a name that has no bound."""
    bound = BOUNDS[name].ratio
    mine, theirs = median(ours), median(peer)
    # Taken in turn: what slowed the machine down for a while met both of a pair.
    pairs = len(ours) == len(peer) > 1
    ratio = median(a / b for a, b in zip(ours, peer, strict=True)) if pairs else mine / theirs
    return Row(name, mine, theirs, unit, ratio, bound, ratio <= bound)


def missing(rows: Sequence[Row]) -> list[str]:
    """The measures that there is no row of."""
    return sorted(set(BOUNDS) - BY_NAME - {row.name for row in rows})


def _short(value: float) -> float:
    return float(f"{value:.4g}")
