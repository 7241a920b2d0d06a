# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which layers there are, and how an empty one is stopped.

Only ever in the job mode `ignore-requirements`: a plain stop would stop the service with its layer.
"""

from __future__ import annotations

from collections.abc import Iterable

from cgroup_layering.errors import KernelFileError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.moving import run_jobs
from cgroup_layering.naming import slice_path, split_layer
from cgroup_layering.systemd.manager import UNIT, Manager

_PATTERN = "*.service.slice"


def layers_there(manager: Manager, fs: CgroupFS) -> list[str]:
    """The names of all layers that systemd has active or whose cgroup is there, sorted.

    systemd makes the cgroup of a slice that a running service only asks for; 252 forgets it there.
    """
    active = {row.name for row in manager.units(_PATTERN) if row.active_state == "active"}
    left = {entry.path.rpartition("/")[2] for entry in fs.walk() if entry.path.endswith(_PATTERN[1:])}
    return sorted(name for name in active | left if split_layer(name))


def populated(fs: CgroupFS, cgroup: str) -> bool:
    """Whether a process is in the cgroup or below; not if it is gone."""
    try:
        return bool(fs.events(cgroup).get("populated"))
    except KernelFileError:
        return False


def stop_empty(manager: Manager, fs: CgroupFS, layers: Iterable[str], timeout: float) -> dict[str, str]:
    """Stop those of `layers` in which nothing runs, looked at right before; those that did not stop, and why."""
    layers = [name for name in layers if not populated(fs, slice_path(name))]
    states = manager.properties(layers, UNIT, ("ActiveState",))
    active = [name for name in layers if states[name].get("ActiveState") == "active"]
    # One that is inactive and whose cgroup is there all the same (252) has to be started to be stopped.
    asleep = [name for name in layers if name not in active and fs.exists(slice_path(name))]
    failed = run_jobs(manager, "start", asleep, timeout, lambda *_: None, "ignore-requirements") if asleep else {}
    chosen = [name for name in (*active, *asleep) if name not in failed]
    empty = [name for name in chosen if not populated(fs, slice_path(name))]
    if empty:
        failed |= run_jobs(manager, "stop", empty, timeout, lambda *_: None, "ignore-requirements")
    return failed
