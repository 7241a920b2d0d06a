# SPDX-License-Identifier: LGPL-2.1-or-later
"""The names of the units that realise a declaration. Pure."""

from __future__ import annotations

from cgroup_layering.naming import escape, unescape

PREFIX, SUFFIX = "cgroup-layering-hold@", ".service"
PATTERN = f"{PREFIX}*{SUFFIX}"


def holder_name(owner: str) -> str:
    """The holder of a service or a domain; its instance name is the owner's, escaped as a layer's is."""
    return f"{PREFIX}{escape(owner)}{SUFFIX}"


def owner_of(holder: str) -> str | None:
    """Whose holder a unit is, or None where it is none."""
    if not (holder.startswith(PREFIX) and holder.endswith(SUFFIX)):
        return None
    escaped = holder.removeprefix(PREFIX).removesuffix(SUFFIX)
    try:
        owner = unescape(escaped)
    except (ValueError, UnicodeDecodeError):
        return None
    return owner if owner and escape(owner) == escaped else None


def mount_name(path: str) -> str:
    """The mount unit of a folder, as `systemd-escape --path --suffix=mount` says it."""
    return "-".join(escape(part) for part in path.strip("/").split("/")) + ".mount"
