# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tool's own files: their names, and what their `[X-CgroupLayering]` section says. Pure."""

from __future__ import annotations

import re
from pathlib import Path

from cgroup_layering.holding.model import Hold, from_json
from cgroup_layering.holding.names import DOMAIN, owner_of
from cgroup_layering.model import OwnFiles, Tracking
from cgroup_layering.naming import split_layer
from cgroup_layering.unitfile import Setting, UnitFiles, parse

SECTION = "X-CgroupLayering"
DROP_IN = "zz-cgroup-layering.conf"
"""Sorts behind set-property's `50-` and ordinary drop-ins: `Slice=` of the last file wins."""
BOOT_TARGET = "slices.target"
"""What wants a layer that is to be active from boot on (systemd.special(7)). basic.target pulls it in; as layers have
DefaultDependencies=no, it does not wait for them, so neither boot nor shutdown gets an ordering from the link."""


def drop_in_path(folder: Path, unit: str) -> Path:
    """Our drop-in of `unit` in a unit folder such as /etc/systemd/system."""
    return folder / f"{unit}.d" / DROP_IN


def boot_link(slice_file: Path) -> Path:
    """The link that makes a layer come with the boot; it points to the slice file."""
    return slice_file.parent / f"{BOOT_TARGET}.wants" / slice_file.name


def with_wanted_by(text: str, wanted_by: str) -> str:
    """A slice file of ours that lists the link or doesn't, as the template would write it."""
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("WantedBy=")]
    return "".join(
        f"{line}WantedBy={wanted_by}\n" if wanted_by and line.startswith("Lifetime=") else line for line in lines
    )


def facts(text: str, path: Path) -> dict[str, str]:
    """What our section of a file says, or nothing where the file is not ours."""
    settings = UnitFiles(parse(text, path)).settings
    return {setting.key: setting.value for setting in settings if setting.section == SECTION}


def is_ours(text: str, path: Path) -> bool:
    """Whether a file says of itself that the tool wrote it."""
    return "Unit" in facts(text, path)


def declaration(text: str, path: Path) -> Hold | None:
    """What a holder's file of ours was made from."""
    return from_json(facts(text, path).get("Declaration", ""))


def domain_holders(drop_in_text: str) -> tuple[str, ...]:
    """The holders of domains that a drop-in of ours asks for."""
    names = [line.removeprefix("Wants=") for line in drop_in_text.splitlines() if line.startswith("Wants=")]
    return tuple(name for name in names if (owner_of(name) or "").endswith(DOMAIN))


def read_back(
    path: Path,
    slice_text: str,
    drop_in_text: str | None,
    linked: bool = False,
    held: tuple[tuple[Path, str], ...] = (),
) -> OwnFiles | None:
    """The layering that a slice file describes, or None where the file is not ours.

    `path` is the slice file as seen from the host; `drop_in_text` None where that file is missing or foreign; `linked`
    whether its boot link is there; `held` are the holder's file and those of its mounts.
    The layer's name must lead to the unit that the section names: a copied file is nobody's.
    """
    said = facts(slice_text, path)
    named = split_layer(path.name)
    if named is None or said.get("Unit") != named[0]:
        return None
    tracking = said.get("Tracking", "")
    hold = next((found for file, text in held if (found := declaration(text, file)) is not None), None)
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
        wanted_by=BOOT_TARGET if said.get("WantedBy") == BOOT_TARGET else "",
        linked=linked,
        limits=said.get("LayerLimits") != "no",
        hold=hold,
        domain_holders=domain_holders(drop_in_text or ""),
        held=held,
        systemd=int(release) if (release := said.get("Systemd", "")).isdecimal() else 0,
        joined_plain=said.get("JoinedPlain") == "yes",
    )


def without_ours(settings: tuple[Setting, ...]) -> tuple[Setting, ...]:
    """A file's assignments, or none where the file is ours."""
    return () if any(s.section == SECTION and s.key == "Unit" for s in settings) else settings


def with_folder_created(slice_text: str, created: bool) -> str:
    """The text of a slice file of ours that says so of the drop-in's folder."""
    return re.sub(r"(?m)^FolderCreated=.*$", f"FolderCreated={'yes' if created else 'no'}", slice_text)
