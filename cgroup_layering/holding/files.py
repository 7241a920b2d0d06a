# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files of a declaration: what is wanted of them is read in, within a budget, and charged to whoever runs this."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from typing import Any

from cgroup_layering.charges.files import Attributor
from cgroup_layering.charges.openfile import UnreadableFile, open_regular
from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.holding.hostcheck import memory
from cgroup_layering.holding.matching import TooMany, matches
from cgroup_layering.holding.model import Hold
from cgroup_layering.holding.state import Report
from cgroup_layering.kernel.mounts import mounts
from cgroup_layering.rehoming.cache import PAGE, Stretch, evict, pages, refill, without
from cgroup_layering.rehoming.choice import memory_devices
from cgroup_layering.spans import format_size

SHARE = 2
"""No more is loaded than memory that is available (MemAvailable) divided by this."""
SECONDS = 60.0
"""After that long no further file is begun: a service waits for this."""


def load(hold: Hold, known: Any, inside: Collection[int], report: Report) -> None:
    """Read in what is wanted; `known` is what `recorded` gave at the last stop, `inside` the layer's cgroups by inode.

    Without a record the files are wanted whole. What is in memory and charged elsewhere is evicted first, unless
    somebody maps it.
    """
    try:
        paths = matches(hold.files)
    except TooMany as error:
        report.problems.append(f"{error}.")
        return
    wanted = _stretches(known)
    budget = min(hold.max_bytes, memory("MemAvailable") // SHARE) // PAGE
    memory_backed = memory_devices(mounts())
    deadline = time.monotonic() + SECONDS
    done = skipped = 0
    for path in paths:
        if wanted is not None and path not in wanted:
            continue
        if budget <= 0 or time.monotonic() > deadline:
            skipped += 1
            continue
        try:
            used, read = _one(path, None if wanted is None else wanted[path], budget, memory_backed, inside)
        except (OSError, CgroupLayeringError) as error:
            report.notes.append(f"{path} was not loaded: {str(error).rstrip('.')}.")
            continue
        budget -= used
        done += read
    report.loaded_bytes += done
    if skipped:
        limit = "memory or time ran short" if budget > 0 else f"`max` of {format_size(hold.max_bytes)} or memory"
        report.notes.append(f"{skipped} files were not looked at any more: {limit} was used up.")


def _one(
    path: str, wanted: list[Stretch] | None, budget: int, memory_backed: Collection[int], inside: Collection[int]
) -> tuple[int, int]:
    """Pages that the file takes of the budget, and bytes read."""
    fd = open_regular(path)
    try:
        status = os.fstat(fd)
        if status.st_dev in memory_backed:
            raise UnreadableFile(path, "it is on a tmpfs, whose files are in memory anyway")
        size = -(-status.st_size // PAGE)
        whole = [(0, size)] if size else []
        # A file that shrank since the record has less to read.
        asked = whole if wanted is None else without(whole, without(whole, wanted))
        asked = _first(asked, budget)
        if _outside(fd, inside):
            evicted = evict(fd, status.st_size)
            again = _first(without(evicted.gone, asked), budget - pages(asked))
            asked = sorted([*asked, *again])
        return pages(asked), refill(fd, asked)
    finally:
        os.close(fd)


def _first(stretches: list[Stretch], most: int) -> list[Stretch]:
    found = []
    for first, count in stretches:
        if most <= 0:
            break
        found.append((first, min(count, most)))
        most -= count
    return found


def _outside(fd: int, inside: Collection[int]) -> bool:
    with Attributor() as attributor:
        (charges,) = attributor.charges([fd])
    return any(count and inode not in inside for inode, count in charges.owners.items())


def _stretches(known: Any) -> Mapping[str, list[Stretch]] | None:
    """The record by path; None if there is none, or a damaged one: then the files are wanted whole."""
    if not isinstance(known, dict):
        return None
    try:
        return {path: [(int(first), int(count)) for first, count in rows] for path, rows in known.items()}
    except (TypeError, ValueError):
        return None
