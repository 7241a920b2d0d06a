# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is charged to one cgroup, by name: files, bpf maps, anonymous and kernel memory, and the part without a name."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from cgroup_layering.charges.bpf_maps import BpfMap
from cgroup_layering.charges.files import Attributor, Openable
from cgroup_layering.charges.host import UNSCANNED, host_charges
from cgroup_layering.charges.hostrows import is_layer
from cgroup_layering.charges.model import FileCharges, FileId
from cgroup_layering.charges.places import host_tmpfs
from cgroup_layering.charges.processes import PROC, Misses, all_pids
from cgroup_layering.charges.service_files import service_files
from cgroup_layering.charges.trees import regular_files
from cgroup_layering.errors import CgroupLayeringError, ExitCode
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.kernel.mounts import mounts
from cgroup_layering.kernel.pfnfile import PAGE_SIZE
from cgroup_layering.kernel.sysvshm import opened, segments

KEPT = 10_000
"""Files that are remembered by name; of more, only the largest are (and all are counted)."""


class NoSuchCgroup(CgroupLayeringError):
    """No cgroup has the path or the unit that was named."""

    exit_code = ExitCode.NO_SUCH_UNIT
    hint = "`systemd-cgls` lists them."

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word

    def __str__(self) -> str:
        return f"There is no cgroup {self.word}."


class Thing(StrEnum):
    """What can be charged."""

    FILE = "file"
    SYSV_SHM = "sysv-shm"
    BPF_MAP = "bpf-map"
    ANON = "anonymous"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True, order=True)
class Charged:
    """One thing with a name, or a sum that the kernel keeps, and its bytes."""

    size_bytes: int
    name: str
    thing: Thing


@dataclass
class Contents:
    """What is charged to a cgroup: to it and all inside it, or to a slice by itself."""

    cgroup: str
    recursive: bool
    current_bytes: int | None
    file_pages: int
    """Pages of files and shared memory that the page scan found charged here."""
    largest: list[Charged] = field(default_factory=list)
    named_pages: int = 0
    files: int = 0
    maps_bytes: int = 0
    unexplained_bytes: int | None = None

    @property
    def unnamed_pages(self) -> int:
        """File pages that no name was found for."""
        return max(0, self.file_pages - self.named_pages)

    def add(self, thing: Thing, name: str, pages: int) -> None:
        """Take in a file."""
        self.files += 1
        self.named_pages += pages
        entry = Charged(pages * PAGE_SIZE, name, thing)
        if len(self.largest) < KEPT:
            heapq.heappush(self.largest, entry)
        else:
            heapq.heappushpop(self.largest, entry)


def find_cgroup(word: str, fs: CgroupFS) -> str:
    """The path of the cgroup that is named by its path or by its unit. Raises NoSuchCgroup."""
    if "/" in word:
        path = "/" + word.removeprefix("/sys/fs/cgroup").strip("/")
        if ".." not in path.split("/") and fs.exists(path):
            return path
        raise NoSuchCgroup(word)
    if word == "-.slice":
        return "/"
    for entry in fs.walk():
        if entry.path.rpartition("/")[2].removeprefix("_") == word:
            return entry.path
    raise NoSuchCgroup(word)


def contents(
    cgroup: str,
    fs: CgroupFS,
    paths: Iterable[Path] = (),
    maps: Iterable[BpfMap] = (),
    progress: Callable[[int, int], None] = lambda _found, _all: None,
    proc: Path = PROC,
    disks: bool = True,
) -> Contents:
    """Find names for what is charged to a cgroup; a slice that is no layer is looked at by itself.

    Looks through what processes use, tmpfs, System V shared memory and bpf maps, then (with `disks`) through `paths`,
    or through the local file systems, until all pages have a name. `progress` gets the pages with a name and all of
    them. Raises as host_charges does.
    """
    recursive = cgroup != "/" and (not cgroup.endswith(".slice") or bool(is_layer(cgroup)))
    host = host_charges(fs, proc)
    row = next((row for row in host.rows if row.path == cgroup), None)
    if row is None:
        raise NoSuchCgroup(cgroup)
    below = [one for one in host.rows if one.path.startswith(f"{cgroup}/")] if recursive else []
    inodes = frozenset({row.inode, *(one.inode for one in below)})
    pages = row.subtree if recursive else row.own
    children = [one for one in host.rows if one.path != "/" and (one.path.rpartition("/")[0] or "/") == cgroup]

    def counted(key: str) -> int:
        inside = 0 if recursive else sum(one.stat.get(key, 0) for one in children)
        return max(0, row.stat.get(key, 0) - inside)

    current = row.memory_current_bytes
    if current is not None and not recursive:
        current = max(0, current - sum(one.memory_current_bytes or 0 for one in children))
    found = Contents(cgroup, recursive, current, pages.file + pages.shmem)
    _name_files(found, inodes, _disk_files(tuple(paths), proc) if disks else (), progress, proc)
    sums = {"anonymous memory": pages.anon * PAGE_SIZE}
    if cgroup != "/":
        sums |= {f"{key} (memory.stat)": counted(key) for key in UNSCANNED}
    owned = [one for one in maps if one.owner in inodes]
    found.maps_bytes = sum(one.memlock_bytes for one in owned)
    kernel_pages = pages.other * PAGE_SIZE
    sums["kernel memory in pages (vmalloc, stacks, page tables; bpf maps included)"] = kernel_pages
    for name, size in sums.items():
        if size:
            found.largest.append(Charged(size, name, Thing.ANON if name.startswith("anon") else Thing.KERNEL))
    found.largest.extend(Charged(one.memlock_bytes, f"{one.id}: {one.name}", Thing.BPF_MAP) for one in owned)
    found.largest.sort(reverse=True)
    if current is not None:
        found.unexplained_bytes = current - sum(sums.values()) - found.file_pages * PAGE_SIZE
    return found


def _name_files(
    found: Contents,
    inodes: frozenset[int],
    on_disk: Iterable[Path],
    progress: Callable[[int, int], None],
    proc: Path,
) -> None:
    seen: set[FileId] = set()
    with Attributor(proc=proc) as attributor:

        def look(targets: Iterable[Path | Openable]) -> bool:
            """Whether all pages have names now."""
            for number, charges in enumerate(attributor.charges(targets, on_error=lambda _error: None)):
                if pages := _new_pages(charges, inodes, seen):
                    found.add(Thing.FILE, str(charges.path), pages)
                if number % 1000 == 0:
                    progress(found.named_pages, found.file_pages)
                if found.named_pages >= found.file_pages:
                    return True
            return False

        used = service_files(all_pids(proc), proc=proc).files
        if look(used) or look(regular_files(host_tmpfs(proc), Misses())):
            return
        _name_segments(found, attributor, inodes, seen, proc)
        if found.named_pages < found.file_pages:
            look(on_disk)


def _new_pages(charges: FileCharges, inodes: frozenset[int], seen: set[FileId]) -> int:
    """The pages of a file in these cgroups, unless it was counted already; it is remembered if there are any."""
    pages = charges.pages_of(inodes)
    if not pages or charges.id in seen:
        return 0
    seen.add(charges.id)
    return pages


def _name_segments(
    found: Contents, attributor: Attributor, inodes: frozenset[int], seen: set[FileId], proc: Path
) -> None:
    for segment in segments(proc):
        if segment.attached or not segment.resident_bytes:
            continue
        try:
            with opened(segment) as fd:
                charges = next(attributor.charges([fd]))
        except (OSError, CgroupLayeringError):  # removed meanwhile
            continue
        if pages := _new_pages(charges, inodes, seen):
            found.add(Thing.SYSV_SHM, f"segment {segment.id} of process {segment.creator}", pages)


def _disk_files(paths: tuple[Path, ...], proc: Path) -> Iterator[Path]:
    """All files below `paths`, or on the host's own disks, where services keep theirs first."""
    if paths:
        yield from regular_files(paths, Misses())
        return
    first = [path for path in map(Path, ("/var/log", "/var/lib", "/var/cache", "/srv", "/usr/lib")) if path.is_dir()]
    points = {mount.device: mount.point for mount in reversed(mounts(proc / "self")) if mount.is_disk}
    yield from regular_files([*first, *sorted(points.values())], Misses())
