# SPDX-License-Identifier: LGPL-2.1-or-later
"""Persistent resources as types: what is declared for a service or a domain. Frozen data, no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

DEFAULT_PERCENT, DEFAULT_BYTES = 2.0, 1 << 20


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """A tmpfs that outlives the instances of a service."""

    path: str
    size: int
    mode: str = "0755"
    owner: str = ""
    """`user` or `user:group`; empty for root."""
    source: str = ""
    """A folder whose contents an empty one is filled with; empty for none."""
    remake: bool = False
    """Whether files whose pages are charged elsewhere are copied anew."""


@dataclass(frozen=True, slots=True)
class BpfMapSpec:
    """A pinned bpf map; sizes in bytes."""

    pin: str
    type: str
    key: int
    value: int
    entries: int
    flags: int = 0
    mode: str = "0600"
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Bound:
    """By how much the charges of two instances may differ: a share of the larger, and bytes on top."""

    percent: float = DEFAULT_PERCENT
    extra: int = DEFAULT_BYTES

    def holds(self, one: int, other: int) -> bool:
        """Whether two sizes in bytes are equal within the bound."""
        return abs(one - other) <= max(one, other) * self.percent / 100 + self.extra


@dataclass(frozen=True, slots=True)
class Hold:
    """All that is declared for one service or domain, under its name."""

    owner: str
    required: bool = False
    files: tuple[str, ...] = ()
    """Globs."""
    max_bytes: int = 0
    """How much of the files is loaded at most."""
    tmpfs: tuple[Tmpfs, ...] = ()
    maps: tuple[BpfMapSpec, ...] = ()
    parity: Bound = field(default_factory=Bound)

    def to_json(self) -> str:
        """One line that `from_json` reads back."""
        return json.dumps(asdict(self), sort_keys=True)


def from_json(text: str) -> Hold | None:
    """What `to_json` wrote, or None for anything else."""
    try:
        said = json.loads(text)
        return Hold(
            owner=str(said["owner"]),
            required=said["required"] is True,
            files=tuple(map(str, said["files"])),
            max_bytes=int(said["max_bytes"]),
            tmpfs=tuple(Tmpfs(**one) for one in said["tmpfs"]),
            maps=tuple(BpfMapSpec(**one) for one in said["maps"]),
            parity=Bound(**said["parity"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class Holds:
    """The declarations of a host by the name of their service or domain, and sentences on those that can't be taken."""

    good: Mapping[str, Hold] = field(default_factory=dict)
    bad: Mapping[str, str] = field(default_factory=dict)

    def over(self, name: str, found: Hold | str) -> Holds:
        """These with a later declaration, or a sentence on one, over that of the same name."""
        good: dict[str, Any] = {key: hold for key, hold in self.good.items() if key != name}
        bad = {key: text for key, text in self.bad.items() if key != name}
        if isinstance(found, Hold):
            good[name] = found
        else:
            bad[name] = found
        return Holds(good, bad)
