# SPDX-License-Identifier: LGPL-2.1-or-later
"""Strays: pages of a service's own files that are charged outside its layer, counted page by page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cgroup_layering.charges.files import Attributor
from cgroup_layering.charges.model import FileId
from cgroup_layering.charges.owners import Owners
from cgroup_layering.charges.processes import PROC, MappedFiles, Misses, all_pids
from cgroup_layering.charges.service_files import service_files
from cgroup_layering.kernel.cgroupfs import CgroupFS


@dataclass(frozen=True, slots=True)
class LayerPages:
    """The resident pages of a service's own files, those that nobody else maps."""

    files: int = 0
    charged: int = 0
    """Pages charged to the layer or to something inside it."""
    strays: Mapping[str, int] = field(default_factory=dict)
    """Pages charged elsewhere, by cgroup."""
    unreadable: int = 0
    raced: int = 0

    @property
    def stray_pages(self) -> int:
        """Pages charged outside the layer, in all."""
        return sum(self.strays.values())


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


def layer_pages(layers: Iterable[str], fs: CgroupFS, proc: Path = PROC) -> dict[str, LayerPages]:
    """The pages of the services in `layers` (cgroup paths), by layer.

    Root and CAP_SYS_ADMIN are needed (KernelFileError, NotPrivileged otherwise). Brings nothing in and changes no
    charge; files that other services map too are left out, since any of them may pay.
    """
    shared = mappers(proc)
    owners = Owners.scan(fs)
    result: dict[str, LayerPages] = {}
    with Attributor() as attributor:
        for layer in layers:
            inside = owners.below(layer)
            used = service_files(fs.procs_recursive(layer), proc=proc)
            own = [
                file
                for file in used.files
                if all(cgroup == layer or cgroup.startswith(f"{layer}/") for cgroup in shared.get(file.id, ()))
            ]
            unreadable: list[Exception] = []
            charged = raced = 0
            strays: Counter[str] = Counter()
            for charges in attributor.charges(own, on_error=unreadable.append):
                charged += charges.pages_of(inside)
                raced += charges.raced_pages
                for inode, pages in charges.owners.items():
                    if inode and inode not in inside:
                        strays[owners.path(inode) or f"cgroup {inode}"] += pages
            result[layer] = LayerPages(len(own), charged, dict(strays), len(unreadable), raced)
    return result
