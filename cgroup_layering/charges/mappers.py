# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which cgroups map which files: any of them may pay for what several map."""

from __future__ import annotations

from pathlib import Path

from cgroup_layering.charges.model import FileId
from cgroup_layering.charges.processes import PROC, MappedFiles, Misses, all_pids


def mappers(proc: Path = PROC) -> dict[FileId, set[str]]:
    """Which cgroups map each file: one look at all processes serves every service.

    This process counts too: what it maps can't be evicted, and may be charged to it.
    """
    found: dict[FileId, set[str]] = {}
    misses = Misses()
    maps = MappedFiles(misses, proc)
    for pid in all_pids(proc):
        try:
            lines = (proc / str(pid) / "cgroup").read_text().splitlines()
        except OSError:
            continue
        cgroup = next((line[3:] for line in lines if line.startswith("0::")), "")
        for file in maps.of(pid):
            found.setdefault(file.id, set()).add(cgroup)
    return found
