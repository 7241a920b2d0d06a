# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names of domains: `shop/web` is the slice system-shop.domain-web.domain.slice, and back. Pure.

The `.domain` keeps it clear of the slice that systemd makes for instances of a template (system-web.slice of
web@1.service), and tells a domain from a layer, which ends in `.service.slice`.
"""

from __future__ import annotations

from cgroup_layering.errors import CgroupLayeringError, ExitCode
from cgroup_layering.naming import SLICE_SUFFIX, UNIT_NAME_LIMIT, escape, is_slice_name, split_layer, unescape

SUFFIX = ".domain"
TOP = "system"
"""The slice that domains are in, without its suffix: that of the system's services."""
DEEPEST = 4
"""Domains within each other; every level costs each charge a little."""
_UNFIT = frozenset("\\\"'`*?[]")
_OTHERS = (SUFFIX, ".slice", ".service", ".scope", ".socket")


class BadDomainName(CgroupLayeringError):
    """A word that can't be the name of a domain."""

    exit_code = ExitCode.USAGE
    hint = "A name is one word such as `web`, or a path such as `shop/web` for a domain inside another."

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name!r} is not the name of a domain: {self.reason}."


def domain_slice(name: str) -> str:
    """The slice of the domain of that name. Raises BadDomainName."""
    parts = name.split("/")
    for part in parts:
        _check(name, part)
    if len(set(parts)) < len(parts):
        raise BadDomainName(name, "a domain can't be inside one of its own name")
    if len(parts) > DEEPEST:
        raise BadDomainName(name, f"it is {len(parts)} domains deep, and {DEEPEST} are the most")
    found = "-".join((TOP, *(escape(part) + SUFFIX for part in parts))) + SLICE_SUFFIX
    if len(found) > UNIT_NAME_LIMIT:
        raise BadDomainName(
            name, f"its slice's name would have {len(found)} bytes, systemd's limit is {UNIT_NAME_LIMIT}"
        )
    return found


def _check(name: str, part: str) -> None:
    if not part:
        raise BadDomainName(name, "it is empty" if not name else "a part between slashes is empty")
    if not part.isprintable() or any(char.isspace() for char in part):
        raise BadDomainName(name, "it has blanks or characters that can't be printed")
    if any(char in _UNFIT for char in part):
        raise BadDomainName(name, "quotes, backslashes and wildcards have no place in it")
    if part.startswith((".", "-")):
        raise BadDomainName(name, f"a name can't begin with {part[0]!r}")
    if part.endswith(_OTHERS):
        raise BadDomainName(name, f"leave out the {part[part.rindex('.') :]!r}")


def domain_name(slice_name: str) -> str:
    """The domain that a slice's name stands for; empty if it is no domain's."""
    if not is_slice_name(slice_name):
        return ""
    head, *parts = slice_name.removesuffix(SLICE_SUFFIX).split("-")
    if head != TOP or not parts or not all(part.endswith(SUFFIX) for part in parts):
        return ""
    try:
        name = "/".join(unescape(part.removesuffix(SUFFIX)) for part in parts)
        return name if domain_slice(name) == slice_name else ""
    except (ValueError, UnicodeDecodeError, BadDomainName):
        return ""


def slice_of_layer(layer: str) -> str:
    """The slice of the domain that a layer is in, as its name tells; empty if it is in none."""
    named = split_layer(layer)
    return named[1] if named is not None and domain_name(named[1]) else ""


def domain_of_layer(layer: str) -> str:
    """The domain that a layer is in, as its name tells; empty if it is in none."""
    return domain_name(slice_of_layer(layer))


def outer(name: str) -> str:
    """The domain around a nested one; empty for one that is in none."""
    return name.rpartition("/")[0]
