# SPDX-License-Identifier: LGPL-2.1-or-later
"""Remove the files of layerings: exactly ours, in an order in which every step leaves a valid host."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cgroup_layering.model import OwnFiles
from cgroup_layering.naming import split_layer
from cgroup_layering.own import BOOT_TARGET, boot_link, drop_in_path, facts, is_ours, with_wanted_by
from cgroup_layering.store import Store
from cgroup_layering.unitpaths import ETC, RUN


def remove_files(store: Store, unit: str, layer: str, folders: Iterable[Path] = (ETC, RUN)) -> bool:
    """Remove our files of one service: drop-in, its folder if we made it, holder and mounts, link, slice last.

    Out: whether there were any.

    The slice file goes last: it is what says that the rest is ours, should the power fail in between.
    """
    gone = False
    for folder in folders:
        slice_file = folder / layer
        text = store.read(slice_file)
        ours = text is not None and is_ours(text, slice_file)
        drop_in = drop_in_path(folder, unit)
        written = store.own_drop_in(drop_in)
        elsewhere = written is not None and _leads_elsewhere(store, folder, written, layer)
        if written is not None and not elsewhere:
            gone |= store.remove(drop_in)
        if not elsewhere:
            gone |= remove_held(store, folder, unit)
        if ours and not elsewhere and text is not None and facts(text, slice_file).get("FolderCreated") == "yes":
            store.sweep(drop_in.parent)
            store.remove_folder(drop_in.parent)
        if ours and text is not None:
            remove_boot_link(store, slice_file, listed="WantedBy" in facts(text, slice_file))
            gone |= store.remove(slice_file)
    return gone


def remove_held(store: Store, folder: Path, owner: str) -> bool:
    """Remove our holder of a service or domain, and before it the mount units that it names; whether there was one."""
    held = store.held(folder, owner)
    for path, _ in reversed(held):
        store.remove(path)
    return bool(held)


def _leads_elsewhere(store: Store, folder: Path, drop_in: str, layer: str) -> bool:
    """Whether a drop-in of ours belongs to another layer, which has its file."""
    said = next((line[6:] for line in drop_in.splitlines() if line.startswith("Slice=")), layer)
    if said == layer or split_layer(said) is None:
        return False
    other = store.read(folder / said)
    return other is not None and is_ours(other, folder / said)


def astray(store: Store) -> list[Path]:
    """Our drop-ins whose slice file was masked, removed or replaced."""
    known = {files.drop_in for files in store.own().values()}
    return [path for path in store.stray_drop_ins() if path not in known]


def remove_stray_drop_ins(store: Store) -> list[str]:
    """Remove drop-ins of ours whose slice file somebody took away; the units they belonged to."""
    units = []
    for path in astray(store):
        if store.remove(path):
            unit = path.parent.name.removesuffix(".d")
            store.remove_folder(path.parent)
            remove_held(store, path.parent.parent, unit)
            units.append(unit)
    return units


def remove_boot_link(store: Store, slice_file: Path, listed: bool) -> bool:
    """Remove a layer's boot link, and its folder if that is empty then, as `systemctl disable` does."""
    link = boot_link(slice_file)
    gone = store.remove_link(link, slice_file)
    if gone or listed:
        # Listed, and not there: a power cut may have come in between.
        store.remove_folder(link.parent)
    return gone


def set_boot_link(store: Store, own: OwnFiles, wanted: bool) -> bool:
    """Bring a layering's boot link, and the line that lists it, to what is wanted; whether anything changed."""
    link, changed = boot_link(own.slice_file), False
    text = with_wanted_by(own.slice_text, BOOT_TARGET if wanted else "")
    if not wanted:
        changed = remove_boot_link(store, own.slice_file, listed=bool(own.wanted_by))
    changed |= store.write(own.slice_file, text)
    if wanted:
        store.make_folder(link.parent)
        changed |= store.link(link, own.slice_file)
    return changed


def last_migration(own: Iterable[OwnFiles]) -> str:
    """The id of the last migration among our files (ids sort by time), or an empty string."""
    return max((files.migration for files in own), default="")
