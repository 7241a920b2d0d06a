# SPDX-License-Identifier: LGPL-2.1-or-later
"""Holders of domains: what several services share is made inside the domain's slice, before any of them starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cgroup_layering._version import __version__
from cgroup_layering.holding.leaving import left_behind, stop_holders
from cgroup_layering.holding.model import Hold, Holds
from cgroup_layering.holding.names import DOMAIN, holder_name, owner_of
from cgroup_layering.own import declaration
from cgroup_layering.removal import remove_held
from cgroup_layering.render import holder_texts
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import Manager
from cgroup_layering.unitpaths import ETC, RUN


@dataclass(frozen=True, slots=True)
class Place:
    """A domain as far as its holder goes: its slice file, and the services in it or in domains inside of it."""

    name: str
    file: Path
    members: tuple[str, ...]

    @property
    def owner(self) -> str:
        """The name that its declaration has."""
        return f"{self.name}{DOMAIN}"


@dataclass
class Kept:
    """Whether unit files changed, and the declarations that are realised no more."""

    changed: bool = False
    gone: list[Hold] = field(default_factory=list)


def keep_holders(store: Store, places: Iterable[Place], holds: Holds | None) -> Kept:
    """Bring the holders of all domains up to date with their members and with what is declared.

    `holds` None leaves what is declared as it is, and so does a declaration that can't be taken. Raises StoreError.
    """
    kept = Kept()
    known = {place.owner: place for place in places}
    for folder in (ETC, RUN):
        for owner in _holding(store, folder):
            place = known.get(owner)
            if place is None or place.file.parent != folder or _wanted(store, place, holds) is None:
                hold = hold_of(store, folder, owner)
                kept.changed |= remove_held(store, folder, owner)
                kept.gone += [hold] if hold is not None else []
    for place in known.values():
        hold = _wanted(store, place, holds)
        if hold is not None:
            kept.changed |= _write(store, place, hold)
    return kept


def after(kept: Kept, store: Store, manager: Manager | None) -> list[str]:
    """What follows on a live host, before its reload: holders without files end; sentences on what stays in memory."""
    if kept.gone and manager is not None:
        stop_holders(manager, store)
    return [sentence for hold in kept.gone for sentence in left_behind(hold, store)]


def _holding(store: Store, folder: Path) -> list[str]:
    owners = [owner_of(name) for name in store.names(folder)]
    return [owner for owner in owners if owner is not None and owner.endswith(DOMAIN) and store.held(folder, owner)]


def hold_of(store: Store, folder: Path, owner: str) -> Hold | None:
    """What our holder of a service or domain in a folder was made from, or None."""
    held = store.held(folder, owner)
    return declaration(held[0][1], held[0][0]) if held else None


def _wanted(store: Store, place: Place, holds: Holds | None) -> Hold | None:
    if holds is None or place.owner in holds.bad:
        return hold_of(store, place.file.parent, place.owner)
    return holds.good.get(place.owner)


def _write(store: Store, place: Place, hold: Hold) -> bool:
    folder = place.file.parent
    texts = holder_texts(hold, place.file.name, place.members, version=__version__, part_of=False)
    changed = False
    for path, _ in reversed(store.held(folder, place.owner)):
        # The holder itself stays: it is what says whose the mounts are.
        if path.name not in texts and path.name != holder_name(place.owner):
            changed |= store.remove(path)
    for name, text in texts.items():
        changed |= store.write(folder / name, text)
    return changed
