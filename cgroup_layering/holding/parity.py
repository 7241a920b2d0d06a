# SPDX-License-Identifier: LGPL-2.1-or-later
"""Are first and later instances charged alike? Two looks at instances of one layer, the earlier one remembered."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgroup_layering.holding.model import Hold
from cgroup_layering.holding.state import read_state, write_state
from cgroup_layering.spans import format_size

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Parity:
    """What two instances are charged, in bytes; `later` is None as long as one instance alone was looked at."""

    first: int
    later: int | None
    kept: bool
    bound: str

    def __str__(self) -> str:
        if self.later is None:
            return f"{format_size(self.first)} first, no later instance was looked at yet"
        return f"{format_size(self.first)} first, {format_size(self.later)} later"


def look(hold: Hold, layer_inode: int, invocation: str, charged: int) -> Parity:
    """Compare the instance that runs with the first that was looked at since the layer came; and remember both.

    Raises OSError where that can't be remembered.
    """
    key = hashlib.sha256(f"{_BOOT_ID.read_text()} {layer_inode} {hold.to_json()}".encode()).hexdigest()
    bound = f"{hold.parity.percent:g} % + {format_size(hold.parity.extra)}"
    known = read_state(hold.owner, "parity")
    if not _fits(known, key):
        known = {"key": key, "first": [invocation, charged], "later": None}
    elif known["first"][0] == invocation:
        charged = int(known["first"][1])
    else:
        known["later"] = [invocation, charged]
    write_state(hold.owner, "parity", known)
    first = int(known["first"][1])
    later = int(known["later"][1]) if known["later"] else None
    return Parity(first, later, later is None or hold.parity.holds(first, later), bound)


def _fits(known: Any, key: str) -> bool:
    return isinstance(known, dict) and known.get("key") == key and {"first", "later"} <= known.keys()
