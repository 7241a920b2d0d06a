# SPDX-License-Identifier: LGPL-2.1-or-later
"""The names of the units that realise a declaration. Pure."""

from __future__ import annotations

from cgroup_layering.naming import escape, unescape

DOMAIN = ".domain"
"""What the name of a domain ends in where it could be taken for a service's."""
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


def owners_around(name: str) -> tuple[str, ...]:
    """The declarations that concern who is in a domain: that of the domain, and before it of those around it."""
    parts = name.split("/") if name else []
    return tuple(f"{'/'.join(parts[: depth + 1])}{DOMAIN}" for depth in range(len(parts)))


def mount_name(path: str) -> str:
    """The mount unit of a folder, as `systemd-escape --path --suffix=mount` says it."""
    return "-".join(escape(part) for part in path.strip("/").split("/")) + ".mount"
