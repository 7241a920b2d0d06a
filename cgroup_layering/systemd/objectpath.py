# SPDX-License-Identifier: LGPL-2.1-or-later
"""The D-Bus object paths of systemd's units."""

from __future__ import annotations

MANAGER = "/org/freedesktop/systemd1"


def object_path(unit: str) -> str:
    """The D-Bus object path of a unit (src/libsystemd/sd-bus/bus-label.c: `bus_label_escape`)."""
    out = []
    for index, byte in enumerate(unit.encode()):
        char = chr(byte)
        plain = char.isascii() and (char.isalpha() or (index > 0 and char.isdigit()))
        out.append(char if plain else f"_{byte:02x}")
    return f"{MANAGER}/unit/{''.join(out) or '_'}"


def unit_of(path: str) -> str:
    """The unit that an object path stands for: the inverse of `object_path`; empty for a path of anything else."""
    label = path.removeprefix(f"{MANAGER}/unit/")
    if label == path:
        return ""
    try:
        parts = [bytes.fromhex(part[:2]) + part[2:].encode() for part in label.split("_")[1:]]
        return (label.partition("_")[0].encode() + b"".join(parts)).decode()
    except ValueError:
        return ""
