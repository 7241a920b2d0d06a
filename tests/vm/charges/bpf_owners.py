#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in the guest: what the package says about bpf maps, and what each cgroup has in `vmalloc`, as JSON.

bpf_owners.py PIN...: waits up to 20 s until the owners of the maps with these pins are cgroups that exist, as the
kernel takes its time over the end of a cgroup. A refusal is printed as the package has it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from cgroup_layering.charges.bpf_maps import BpfUnavailable, bpf_maps

CGROUPS = Path("/sys/fs/cgroup")


def cgroups() -> dict[int, tuple[str, int]]:
    """Path and bytes of `vmalloc` in memory.stat by inode number, read without the package."""
    found = {}
    for name, _, _ in os.walk(CGROUPS):
        folder = Path(name)
        try:
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            found[folder.stat().st_ino] = (f"/{folder.relative_to(CGROUPS)}", int(stat["vmalloc"]))
        except OSError:  # gone, or without the memory controller
            continue
    return found


def main(pins: list[str]) -> None:
    """Print it."""
    deadline = time.monotonic() + 20
    while True:
        maps, there = bpf_maps(), cgroups()
        named = [one for one in maps if set(map(str, one.pins)) & set(pins)]
        if time.monotonic() > deadline or all(one.owner in there for one in named):
            break
        time.sleep(0.5)
    listed = [asdict(one) | {"owner": there.get(one.owner, ("", 0))[0]} for one in maps]
    print(json.dumps({"maps": listed, "vmalloc": dict(there.values())}, default=str))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BpfUnavailable as error:
        print(json.dumps([str(error), error.hint]))
