# SPDX-License-Identifier: LGPL-2.1-or-later
"""What stands in the way of a service's files: foreign files, symlinks, and drop-ins that would beat ours."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from pathlib import Path

from cgroup_layering.domains.naming import slice_of_layer
from cgroup_layering.model import OwnFiles, Reason
from cgroup_layering.naming import NameTooLong, layer_name
from cgroup_layering.offline import parent_slice
from cgroup_layering.own import DROP_IN, drop_in_path, is_ours
from cgroup_layering.rooted import StoreError, SymlinkInTheWay
from cgroup_layering.store import Store
from cgroup_layering.unitfile import UnitFiles


def obstacle(
    store: Store,
    unit: str,
    files: UnitFiles,
    own: OwnFiles | None,
    folder: Path,
    pooled: Iterable[Path],
    there: Container[str] | None = None,
) -> Reason | None:
    """The first thing that keeps our two files of `unit` from being written or from winning, or None.

    `pooled` are the drop-ins that apply, as the host sees them; `folder` is where ours would go, and `there` the
    names in it, if they are known.
    """
    try:
        # A layer in a domain stays there, whatever the service's own slice is.
        domain = slice_of_layer(own.layer) if own is not None else ""
        layer = layer_name(unit, domain or parent_slice(unit, files))
    except NameTooLong:
        return None
    for top in (layer, f"{unit}.d"):
        if there is not None and top not in there:
            continue
        path = folder / layer if top == layer else drop_in_path(folder, unit)
        try:
            text = store.read(path)
        except SymlinkInTheWay as error:
            return Reason("symlink", f"{unit} cannot be layered: {error}")
        except StoreError as error:
            return Reason("foreign-file", f"{unit} cannot be layered: {error}")
        if text is not None and not is_ours(text, path):
            return Reason(
                "foreign-file",
                f"{unit} cannot be layered: {path} is there and was not written by cgroup-layering.",
            )
    mine = {drop_in_path(folder, unit)}
    if own is not None:
        mine.add(own.drop_in)
    for path in pooled:
        if path.name == DROP_IN and path not in mine:
            return Reason("foreign-file", f"{unit} cannot be layered: {path} has the name of our drop-in.")
        if os.fsencode(path.name) > os.fsencode(DROP_IN):
            for setting in files.settings:
                if setting.path == path and setting.section == "Service" and setting.key == "Slice":
                    return Reason(
                        "outranked",
                        f"{unit} cannot be layered: {path}, line {setting.line}, sets Slice= and sorts behind "
                        f"{DROP_IN}.",
                    )
    return None
