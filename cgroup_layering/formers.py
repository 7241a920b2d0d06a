# SPDX-License-Identifier: LGPL-2.1-or-later
"""Former layers: a service got another one, in a domain or out of it, and its last instance may still be in the old.

The slice file stays as long as the old layer's cgroup does, so its limits hold until then; `reap` takes both away.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cgroup_layering.model import OwnFiles
from cgroup_layering.own import is_ours
from cgroup_layering.removal import remove_boot_link
from cgroup_layering.store import Store
from cgroup_layering.unitpaths import ETC, RUN


def former_layers(store: Store) -> list[OwnFiles]:
    """The layers that services have left for others, with the others as their successors. Raises StoreError."""
    known, found = store.own(), dict[str, OwnFiles]()
    for files in store.all_own():
        now = known[files.unit]
        if now.complete and files.layer != now.layer:
            found.setdefault(files.layer, replace(files, successor=now.layer))
    return list(found.values())


def layering_of(store: Store, layer: str) -> OwnFiles | None:
    """What a layer's files describe now, with its successor if its service has left it. Raises StoreError."""
    files = store.own_of(layer)
    if files is None or files.complete:
        return files
    return next((one for one in former_layers(store) if one.layer == layer), files)


def layerings(store: Store) -> list[OwnFiles]:
    """All layers with files of ours, each once: those of services, and those that they have left. Raises StoreError."""
    return [*store.own().values(), *former_layers(store)]


def remove_former(store: Store, layer: str, folders: tuple[Path, ...] = (ETC, RUN)) -> bool:
    """Remove the slice file of a former layer, and its boot link; the service's drop-in is another layer's."""
    gone = False
    for folder in folders:
        path = folder / layer
        text = store.read(path)
        if text is not None and is_ours(text, path):
            remove_boot_link(store, path, listed="WantedBy=" in text)
            gone |= store.remove(path)
    return gone
