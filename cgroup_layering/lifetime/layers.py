# SPDX-License-Identifier: LGPL-2.1-or-later
"""All layers of a host, with and without files, and what is known of each now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cgroup_layering.errors import KernelFileError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.lifetime.drain import charged
from cgroup_layering.lifetime.rules import Standing
from cgroup_layering.model import OwnFiles
from cgroup_layering.naming import slice_path, split_layer
from cgroup_layering.stopping import layers_there, populated
from cgroup_layering.systemd.manager import UNIT, Manager

_GONE = ("not-found", "masked")
_INACTIVE = ("inactive", "failed")


@dataclass(frozen=True)
class LayerState:
    """One layer. `own` is None for an orphan: systemd or cgroupfs has it, and no file of ours describes it."""

    layer: str
    unit: str
    own: OwnFiles | None
    standing: Standing
    active: bool
    """Whether systemd has the slice active."""
    gone: str = ""
    """Why the service counts as gone from the system, in half a sentence; empty if it is there."""
    masked: bool = False
    dying: int = 0

    @property
    def cgroup(self) -> str:
        """The layer's cgroup."""
        return slice_path(self.layer)


def layer_states(
    own: Iterable[OwnFiles],
    manager: Manager,
    fs: CgroupFS,
    clock: Callable[[], float] = time.monotonic,
    others: Iterable[str] | None = None,
) -> list[LayerState]:
    """Every layer that has files of ours, that systemd has loaded without any, or whose cgroup is there; by name.

    Where `others` are given, only these names and the layers that `own` describes.
    """
    files = {one.layer: one for one in own}
    there = layers_there(manager, fs) if others is None else others
    names = {name: pair[0] for name in sorted({*files, *there}) if (pair := split_layer(name))}
    # A call for all of them: properties would have systemd load each unit that nothing keeps loaded, one by one.
    slices = dict(zip(names, manager.load(names), strict=True))
    rows = dict(zip(names.values(), manager.load(names.values()), strict=True))
    fragments = manager.properties([layer for layer in names if layer not in files], UNIT, ("FragmentPath",))
    asleep = [unit for unit, row in rows.items() if row.active_state in _INACTIVE]
    ended = manager.properties(asleep, UNIT, ("InactiveEnterTimestampMonotonic",))
    found = []
    for layer, unit in names.items():
        row = rows[unit]
        active = slices[layer].active_state == "active"
        if layer not in files and fragments[layer].get("FragmentPath"):
            continue  # somebody else's slice of that name
        gone = _gone(unit, row.name, row.load_state)
        inhabited = populated(fs, slice_path(layer))
        running = inhabited or row.active_state not in _INACTIVE
        if layer in files and files[layer].successor:
            running, gone = inhabited, ""  # its service lives elsewhere
        since = ended.get(unit, {}).get("InactiveEnterTimestampMonotonic")
        if isinstance(since, int) and since > 0:
            seconds = clock() - since / 1e6
        else:
            seconds = _unchanged_seconds(fs, slice_path(layer), clock)
        standing = Standing(
            installed=not gone,
            running=running and not (gone and not inhabited),
            exists=active or fs.exists(slice_path(layer)),
            inactive_seconds=max(0.0, seconds),
            charged_bytes=_charged(fs, slice_path(layer)),
        )
        dying = _dying(fs, slice_path(layer))
        found.append(
            LayerState(layer, unit, files.get(layer), standing, active, gone, row.load_state == "masked", dying)
        )
    return found


def _gone(unit: str, primary: str, load_state: str) -> str:
    if primary != unit:
        return f"{unit} is an alias of {primary} now"
    if load_state in _GONE:
        return f"{unit} is masked" if load_state == "masked" else f"{unit} is gone from the system"
    return ""


def _charged(fs: CgroupFS, cgroup: str) -> int:
    try:
        return sum(charged(fs, cgroup))
    except KernelFileError:
        return 0


def _unchanged_seconds(fs: CgroupFS, cgroup: str, clock: Callable[[], float]) -> float:
    """For how long no instance came or went in a layer; since boot where that can't be told.

    systemd unloads a stopped service that no loaded unit refers to, and with it goes the time of its stop. The folder
    of the layer keeps it: kernfs notes when an entry goes (fs/kernfs/dir.c, `__kernfs_remove`).
    """
    try:
        return min(clock(), time.time() - fs.directory(cgroup).stat().st_mtime)
    except OSError:
        return clock()


def _dying(fs: CgroupFS, cgroup: str) -> int:
    try:
        return fs.cgroup_stat(cgroup).get("nr_dying_descendants", 0)
    except KernelFileError:
        return 0
