# SPDX-License-Identifier: LGPL-2.1-or-later
"""Unit and slice names: checking, escaping, and the reversible mapping from a service to its layer.

Sources: systemd.unit(5) "String escaping for inclusion in unit names"; src/basic/unit-name.c in systemd's tree
(`unit_name_is_valid`, `do_escape`, `slice_name_is_valid`).
"""

from __future__ import annotations

import re
from functools import lru_cache

from cgroup_layering.errors import CgroupLayeringError, ExitCode

UNIT_NAME_LIMIT = 255
"""Longest unit name in bytes (UNIT_NAME_MAX, less the closing NUL)."""

ROOT_SLICE = "-.slice"
SERVICE_SUFFIX = ".service"
SLICE_SUFFIX = ".slice"

_PLAIN = r"[A-Za-z0-9:_.\\-]+"
_SERVICE = re.compile(rf"{_PLAIN}(?:@[A-Za-z0-9:_.\\@-]*)?\.service", re.ASCII)
_SLICE = re.compile(rf"{_PLAIN}\.slice", re.ASCII)
_GLOB = re.compile(r"[A-Za-z0-9:_.\\@*?\[\]!-]+", re.ASCII)
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_KEPT = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.")


class InvalidName(CgroupLayeringError):
    """A word that is no name of a service unit."""

    exit_code = ExitCode.USAGE

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name!r} is not a valid service name: {self.reason}."


class NameTooLong(CgroupLayeringError):
    """The layer's name would be over systemd's limit, which systemd ignores in silence."""

    def __init__(self, unit: str, layer: str) -> None:
        super().__init__(unit, layer)
        self.unit = unit
        self.layer = layer

    def __str__(self) -> str:
        return (
            f"{self.unit} cannot be layered: the name of its layer would have {len(self.layer)} bytes, "
            f"systemd's limit is {UNIT_NAME_LIMIT}."
        )


def is_service_name(name: str) -> bool:
    """Whether `name` is a valid service unit name, template or instance included."""
    return len(name) <= UNIT_NAME_LIMIT and _SERVICE.fullmatch(name) is not None


def is_slice_name(name: str) -> bool:
    """Whether systemd accepts `name` as a slice: plain, and no empty part between dashes."""
    if name == ROOT_SLICE:
        return True
    if len(name) > UNIT_NAME_LIMIT or _SLICE.fullmatch(name) is None:
        return False
    return all(name.removesuffix(SLICE_SUFFIX).split("-"))


def service_name(word: str) -> str:
    """The service unit that a word on the command line means; `.service` may be omitted.

    Raises InvalidName for other unit types and for anything that systemd would not accept.
    """
    suffixes = ("socket", "target", "timer", "path", "mount", "automount", "swap", "slice", "scope", "device")
    kind = word.rpartition(".")[2]
    if kind in suffixes:
        raise InvalidName(word, f"it is a {kind} unit, and only services are layered")
    name = word if word.endswith(SERVICE_SUFFIX) else word + SERVICE_SUFFIX
    if len(name) > UNIT_NAME_LIMIT:
        raise InvalidName(word, f"it has {len(name)} bytes, systemd's limit is {UNIT_NAME_LIMIT}")
    if not is_service_name(name):
        raise InvalidName(word, "unit names have only letters, digits and : _ . \\ - @")
    return name


def is_glob(word: str) -> bool:
    """Whether a word on the command line is a pattern, as systemctl understands them."""
    return any(char in word for char in "*?[") and _GLOB.fullmatch(word) is not None


def is_template(unit: str) -> bool:
    """Whether `unit` is a template such as `getty@.service`."""
    return unit.endswith("@" + SERVICE_SUFFIX)


def prefix_of(unit: str) -> str:
    """What stands before the `@` (`%p`), or the whole name without its suffix."""
    return unit.removesuffix(SERVICE_SUFFIX).partition("@")[0]


def instance_of(unit: str) -> str | None:
    """What stands behind the `@` (`%i`), or None where the unit is not an instance."""
    _, at, instance = unit.removesuffix(SERVICE_SUFFIX).partition("@")
    return instance if at and instance else None


def template_of(unit: str) -> str | None:
    """The template an instance comes from, or None."""
    return f"{prefix_of(unit)}@{SERVICE_SUFFIX}" if instance_of(unit) is not None else None


@lru_cache(maxsize=4096)
def escape(text: str) -> str:
    """Escape `text` as `systemd-escape` does: bytes outside `[A-Za-z0-9:_.]` become `\\xHH`, `/` becomes `-`."""
    parts = []
    for index, byte in enumerate(text.encode()):
        char = chr(byte)
        if char == "/":
            parts.append("-")
        elif char in _KEPT and not (index == 0 and char == "."):
            parts.append(char)
        else:
            parts.append(f"\\x{byte:02x}")
    return "".join(parts)


def unescape(text: str) -> str:
    """The inverse of `escape`; raises ValueError where `text` is no valid escaping."""
    if "\\" in _ESCAPED.sub("", text):
        raise ValueError(f"stray backslash in {text!r}")
    plain = text.replace("-", "/").encode()
    return re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), plain).decode()


def default_slice(unit: str) -> str:
    """The slice systemd gives a system service without `Slice=` (src/core/unit.c, `unit_set_default_slice`)."""
    if instance_of(unit) is not None:
        return f"system-{escape(prefix_of(unit))}{SLICE_SUFFIX}"
    return "system.slice"


def layer_name(unit: str, parent: str) -> str:
    """The name of the layer of `unit` below the slice `parent`; raises NameTooLong."""
    head = "" if parent == ROOT_SLICE else parent.removesuffix(SLICE_SUFFIX) + "-"
    layer = f"{head}{escape(unit)}{SLICE_SUFFIX}"
    if len(layer) > UNIT_NAME_LIMIT:
        raise NameTooLong(unit, layer)
    return layer


def split_layer(layer: str) -> tuple[str, str] | None:
    """`(unit, parent slice)` of a layer's name, or None where `layer` is not a layer's name."""
    if not is_slice_name(layer) or layer == ROOT_SLICE:
        return None
    head, _, escaped = layer.removesuffix(SLICE_SUFFIX).rpartition("-")
    try:
        unit = unescape(escaped)
    except (ValueError, UnicodeDecodeError):
        return None
    if not is_service_name(unit) or escape(unit) != escaped:
        return None
    return unit, f"{head}{SLICE_SUFFIX}" if head else ROOT_SLICE


def slice_path(name: str) -> str:
    """The cgroup of a slice below the root, as systemd's ControlGroup shows it: `/system.slice/system-a.slice`."""
    if name == ROOT_SLICE:
        return "/"
    parts = name.removesuffix(SLICE_SUFFIX).split("-")
    return "".join(f"/{'-'.join(parts[: depth + 1])}{SLICE_SUFFIX}" for depth in range(len(parts)))


def ancestors(name: str) -> tuple[str, ...]:
    """All slices above `name`, nearest first, ending in `-.slice`."""
    parts = name.removesuffix(SLICE_SUFFIX).split("-") if name != ROOT_SLICE else []
    above = ["-".join(parts[:depth]) + SLICE_SUFFIX for depth in range(len(parts) - 1, 0, -1)]
    return (*above, ROOT_SLICE) if name != ROOT_SLICE else ()
