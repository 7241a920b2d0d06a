# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `bpftool -j cgroup tree` prints: programs that somebody attached to a service's cgroup. Pure.

A program goes with the cgroup that it is attached to, and one on an ancestor holds for what is below.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from cgroup_layering.model import PathRule

OWN_PREFIX = "sd_"
"""systemd's own programs are named so (src/core/bpf-*.c, src/core/bpf/), and it attaches them at each start."""


@dataclass(frozen=True, slots=True)
class Attached:
    """One program on one cgroup (as below the root of the hierarchy)."""

    cgroup: str
    id: int
    kind: str
    name: str

    @property
    def rule(self) -> PathRule:
        """It as a rule that names its cgroup."""
        text = f"{self.kind}{f' {self.name}' if self.name else ''}"
        return PathRule("bpf", f"program {self.id} attached to {self.cgroup}", text, (self.cgroup,))


def parse_tree(text: str, root: str) -> tuple[Attached, ...]:
    """Programs on services' cgroups, systemd's own left out; `root` is where cgroups are mounted.

    Raises ValueError, TypeError.
    """
    document = json.loads(text or "[]")
    if not isinstance(document, list):
        raise TypeError("it is no list")
    found = []
    for entry in document:
        cgroup = str(entry.get("cgroup", "")).removeprefix(root.rstrip("/"))
        for program in entry.get("programs", []):
            name = str(program.get("name", ""))
            if cgroup.endswith(".service") and not name.startswith(OWN_PREFIX):
                found.append(Attached(cgroup, int(program.get("id", 0)), str(program.get("attach_type", "")), name))
    return tuple(found)


def parse_id(text: str) -> int:
    """The id in what `bpftool -j prog show pinned PATH` prints. Raises ValueError, TypeError."""
    document = json.loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("id"), int):
        raise TypeError("it names no program")
    return int(document["id"])
