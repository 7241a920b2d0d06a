# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of a declaration's files is in memory when the service has stopped. Light imports: each restart waits for it."""

from __future__ import annotations

import os
from pathlib import Path

from cgroup_layering.charges.openfile import UnreadableFile, open_regular
from cgroup_layering.holding.matching import TooMany, matches
from cgroup_layering.holding.model import Hold
from cgroup_layering.holding.state import MOST_STRETCHES
from cgroup_layering.rehoming.cache import Stretch, resident


def recorded(hold: Hold) -> dict[str, list[Stretch]]:
    """Which parts of the files are in memory now, by path; files without any are left out."""
    found: dict[str, list[Stretch]] = {}
    left = MOST_STRETCHES
    try:
        paths = matches(hold.files)
    except TooMany:
        return found
    for path in paths:
        try:
            fd = open_regular(Path(path))
        except UnreadableFile:
            continue
        try:
            rows = resident(fd, os.fstat(fd).st_size)
        except OSError:
            rows = []
        finally:
            os.close(fd)
        if rows and left >= len(rows):
            found[path] = rows
            left -= len(rows)
    return found
