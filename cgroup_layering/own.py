# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tool's own files: their names, and what their `[X-CgroupLayering]` section says. Pure."""

from __future__ import annotations

from pathlib import Path

from cgroup_layering.model import OwnFiles, Tracking
from cgroup_layering.naming import split_layer
from cgroup_layering.unitfile import Setting, UnitFiles, parse

SECTION = "X-CgroupLayering"
DROP_IN = "zz-cgroup-layering.conf"
"""Sorts behind set-property's `50-` and ordinary drop-ins: `Slice=` of the last file wins."""


def drop_in_path(folder: Path, unit: str) -> Path:
    """Our drop-in of `unit` in a unit folder such as /etc/systemd/system."""
    return folder / f"{unit}.d" / DROP_IN


def facts(text: str, path: Path) -> dict[str, str]:
    """What our section of a file says, or nothing where the file is not ours."""
    settings = UnitFiles(parse(text, path)).settings
    return {setting.key: setting.value for setting in settings if setting.section == SECTION}


def is_ours(text: str, path: Path) -> bool:
    """Whether a file says of itself that the tool wrote it."""
    return "Unit" in facts(text, path)


def read_back(path: Path, slice_text: str, drop_in_text: str | None) -> OwnFiles | None:
    """The layering that a slice file describes, or None where the file is not ours.

    `path` is the slice file as seen from the host; `drop_in_text` None where that file is missing or foreign.
    The layer's name must lead to the unit that the section names: a copied file is nobody's.
    """
    said = facts(slice_text, path)
    named = split_layer(path.name)
    if named is None or said.get("Unit") != named[0]:
        return None
    tracking = said.get("Tracking", "")
    return OwnFiles(
        unit=named[0],
        layer=path.name,
        tracking=Tracking(tracking) if tracking in set(Tracking) else Tracking.INSTANCE,
        lifetime=said.get("Lifetime", ""),
        migration=said.get("Migration", ""),
        version=said.get("Version", ""),
        folder_created=said.get("FolderCreated") == "yes",
        slice_file=path,
        drop_in=drop_in_path(path.parent, named[0]),
        slice_text=slice_text,
        drop_in_text=drop_in_text,
    )


def without_ours(settings: tuple[Setting, ...]) -> tuple[Setting, ...]:
    """A file's assignments, or none where the file is ours."""
    return () if any(s.section == SECTION and s.key == "Unit" for s in settings) else settings
