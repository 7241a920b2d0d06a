# SPDX-License-Identifier: LGPL-2.1-or-later
"""Declarations that change: holders whose files are gone have to end before systemd reads that.

A unit without a file has the defaults, and memory accounting is one of them: loaded as a member of the layer, it would
switch the controller on for the service too.
"""

from __future__ import annotations

import os

from cgroup_layering.holding.model import Hold
from cgroup_layering.holding.names import PATTERN, mount_name, owner_of
from cgroup_layering.holding.state import forget
from cgroup_layering.moving import run_jobs
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import Manager
from cgroup_layering.unitpaths import ETC, RUN

TIMEOUT = 60.0


def stop_holders(manager: Manager, store: Store, timeout: float = TIMEOUT) -> dict[str, str]:
    """Stop holders that are up and have no file of ours any more; those that did not stop, and why.

    To be called before the reload. As with layers, no service that requires one is stopped with it.
    """
    rows = [row for row in manager.units(PATTERN) if row.active_state not in ("inactive", "failed")]
    gone = [row.name for row in rows if not _has_file(store, row.name)]
    failed = run_jobs(manager, "stop", gone, timeout, lambda *_: None, "ignore-requirements") if gone else {}
    for name in gone:
        forget(store, owner_of(name) or "")
    return failed


def _has_file(store: Store, name: str) -> bool:
    owner = owner_of(name)
    return owner is None or any(store.held(folder, owner) for folder in (ETC, RUN))


def held_later(unit: str) -> str:
    """The sentence on a declaration that has changed while the service runs in its layer."""
    return f"What is declared for {unit} is made and loaded at its next start."


def left_behind(hold: Hold, store: Store) -> list[str]:
    """What stays in memory of a declaration that is realised no more, as sentences: it is the service's data."""
    forget(store, hold.owner)
    found = []
    for one in hold.tmpfs:
        if os.path.ismount(store.root / one.path[1:]):
            found.append(
                f"{one.path} stays mounted, with what is in it, until the next boot or `systemctl stop "
                f"'{mount_name(one.path)}'`."
            )
    found += [
        f"{spec.pin} stays pinned until the next boot or until it is removed."
        for spec in hold.maps
        if os.path.lexists(store.root / spec.pin[1:])
    ]
    return found
