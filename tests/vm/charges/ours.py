#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in the guest: what the package says about files, a service and the host, as JSON.

ours.py PID PATH...: {files: [as pagereader.py], service: {path: uses}, host: {cgroup: {...}}, peak_kib}
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

from cgroup_layering.charges.files import Attributor
from cgroup_layering.charges.host import host_charges
from cgroup_layering.charges.owners import Owners
from cgroup_layering.charges.service_files import service_files
from cgroup_layering.kernel.cgroupfs import CgroupFS


def main(pid: int, names: list[str]) -> None:
    """Print everything in one go: in an emulated guest each start of Python takes seconds."""
    cgroups = CgroupFS()
    owners = Owners.scan(cgroups)
    # links in /proc lead to files without a name; they are opened here, and the descriptors handed over
    targets = [os.open(name, os.O_RDONLY) if name.startswith("/proc/") else Path(name) for name in names]
    with Attributor(count_mappings=True) as attributor:
        files = [
            {
                "path": name,
                "size": charges.size_bytes,
                "resident": charges.resident_pages,
                "mapped_by_others": charges.mapped_by_others,
                "owners": {owners.path(inode) or "none": pages for inode, pages in charges.owners.items()},
                "raced": charges.raced_pages,
            }
            for name, charges in zip(names, attributor.charges(targets), strict=True)
        ]
        used = service_files([pid])
        of_service = {
            str(file.path): {"uses": sorted(file.uses), "deleted": file.deleted, "pages": charges.charged_pages}
            for file, charges in zip(used.files, attributor.charges(used.files), strict=True)
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    hosts = [host(cgroups)]
    for _ in range(2):
        time.sleep(3)
        hosts.append(host(cgroups))
    print(json.dumps({"files": files, "service": of_service, "host": hosts[0], "hosts": hosts, "peak_kib": peak}))


def host(cgroups: CgroupFS) -> dict[str, dict[str, int | None]]:
    """Every row of the host, beside the kernel's counters."""
    return {
        row.path: {
            "own": row.own.total,
            "file": (row.subtree.file + row.subtree.shmem) * os.sysconf("SC_PAGE_SIZE"),
            "anon": row.subtree.anon * os.sysconf("SC_PAGE_SIZE"),
            "stat_file": row.stat.get("file", 0),
            "stat_anon": row.stat.get("anon", 0),
            "current": row.memory_current_bytes,
            "unexplained": row.unexplained_bytes,
        }
        for row in host_charges(cgroups).rows
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
