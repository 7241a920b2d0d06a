# SPDX-License-Identifier: LGPL-2.1-or-later
"""All that a service uses, and who pays for it: files, tmpfs, bpf maps, and the strays among them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cgroup_layering.charges.bpf_maps import BpfMap
from cgroup_layering.charges.files import Attributor
from cgroup_layering.charges.listing import FileRow, Owner, file_row, named
from cgroup_layering.charges.mappers import mappers
from cgroup_layering.charges.model import FileCharges, FileId
from cgroup_layering.charges.owners import Owners
from cgroup_layering.charges.places import host_tmpfs, private_tmpfs
from cgroup_layering.charges.processes import PROC, Misses
from cgroup_layering.charges.service_files import ServiceFile, Use, service_files
from cgroup_layering.charges.trees import regular_files
from cgroup_layering.kernel.cgroupfs import CgroupFS

_PATIENCE = 4.0
"""Seconds for looking again, for all services together. A cgroup that was removed is named by the kernel until a worker
has set it offline (kernel/cgroup/cgroup.c: `css_killed_work_fn`): 12 to 435 ms, as seen in emulated guests on 6.12 and
7.2. From then on the parent is."""
_PAUSE = 0.2


@dataclass(frozen=True)
class Target:
    """A service to look at: its home is its layer's cgroup, or its own where it is plain; empty if it has none."""

    unit: str
    home: str
    folders: tuple[Path, ...] = ()
    running: str = ""
    """Where its processes are, if that is not in its home: it was layered and not restarted since."""


@dataclass(frozen=True)
class UsedFile:
    """One file, why it is the service's, and which other cgroups map it."""

    row: FileRow
    uses: frozenset[Use]
    deleted: bool
    shared_with: tuple[str, ...]
    inside_pages: int
    """Pages charged to the service's home."""
    device: int
    inode: int
    private: bool
    """Whether only its processes see it at that path."""

    @property
    def outside_pages(self) -> int:
        """Pages charged to another cgroup than its home."""
        return sum(owner.pages for owner in self.row.owners) - self.inside_pages


@dataclass
class Usage:
    """A service's files and maps. Strays are pages of files that nobody else maps, charged outside its home."""

    target: Target
    files: list[UsedFile] = field(default_factory=list)
    maps: list[BpfMap] = field(default_factory=list)
    vanished: int = 0
    unreadable: list[str] = field(default_factory=list)
    unsettled_pages: int = 0
    """Pages charged to a cgroup that came or went meanwhile."""

    @property
    def inside_pages(self) -> int:
        """Pages of its files charged to its home."""
        return sum(used.inside_pages for used in self.files)

    @property
    def shared_pages(self) -> int:
        """Pages charged elsewhere of files that others map too: any of them may pay."""
        return sum(used.outside_pages for used in self.files if used.shared_with)

    def strays(self) -> list[Owner]:
        """Who pays for pages of its own files in its place, the largest share first."""
        sums: Counter[tuple[str, str]] = Counter()
        home = self.target.home
        for used in self.files:
            if not used.shared_with:
                for owner in used.row.owners:
                    if not within(owner.cgroup, home):
                        sums[owner.cgroup, owner.unit] += owner.pages
        found = [Owner(cgroup, unit, pages) for (cgroup, unit), pages in sums.items()]
        return sorted(found, key=lambda owner: (-owner.pages, owner.cgroup))


def _of(cgroup: str, target: Target) -> bool:
    return within(cgroup, target.home) or within(cgroup, target.running)


def within(cgroup: str, home: str) -> bool:
    """Whether a cgroup is `home` or below it."""
    return bool(home) and (cgroup == home or cgroup.startswith(f"{home.rstrip('/')}/"))


def usages(targets: Iterable[Target], fs: CgroupFS, maps: Iterable[BpfMap] = (), proc: Path = PROC) -> list[Usage]:
    """What each service uses, page by page. In and out as each_usage, all at once."""
    return list(each_usage(targets, fs, maps, proc))


def each_usage(
    targets: Iterable[Target], fs: CgroupFS, maps: Iterable[BpfMap] = (), proc: Path = PROC
) -> Iterator[Usage]:
    """What each service uses, page by page, one after the other.

    Root and CAP_SYS_ADMIN are needed (KernelFileError, NotPrivileged otherwise). Brings nothing into memory and changes
    no charge. What vanishes meanwhile is counted. Pages of a cgroup that came or went are looked at again, for some
    seconds at most.
    """
    shared = mappers(proc)
    maps = tuple(maps)
    with Attributor(proc=proc) as attributor:
        owners, on_tmpfs = Owners.scan(fs), _charged_on_tmpfs(attributor, proc)
        left = _PATIENCE
        for target in targets:
            usage = _usage(target, fs, owners, shared, attributor, on_tmpfs, maps, proc)
            while usage.unsettled_pages and left > 0:
                begin = time.monotonic()
                time.sleep(_PAUSE)
                owners, on_tmpfs = Owners.scan(fs), _charged_on_tmpfs(attributor, proc)
                usage = _usage(target, fs, owners, shared, attributor, on_tmpfs, maps, proc)
                left -= time.monotonic() - begin
            yield usage


def _charged_on_tmpfs(attributor: Attributor, proc: Path) -> list[FileCharges]:
    files = regular_files(host_tmpfs(proc), Misses())
    return [one for one in attributor.charges(files, on_error=lambda _error: None) if one.charged_pages]


def _usage(
    target: Target,
    fs: CgroupFS,
    owners: Owners,
    shared: Mapping[FileId, set[str]],
    attributor: Attributor,
    on_tmpfs: list[FileCharges],
    maps: tuple[BpfMap, ...],
    proc: Path,
) -> Usage:
    home = owners.below(target.home) if target.home else frozenset()
    pids = fs.procs_recursive(target.home) if home else []
    if target.running and fs.exists(target.running):
        pids += fs.procs_recursive(target.running)
    used = service_files(pids, target.folders, proc, private_tmpfs(pids, proc))
    usage = Usage(target, vanished=used.vanished, unreadable=list(used.unreadable))
    usage.maps = [one for one in maps if one.owner in home or not set(one.pids).isdisjoint(pids)]

    def add(charges: FileCharges, uses: frozenset[Use], deleted: bool, private: bool) -> None:
        others = tuple(sorted(cgroup for cgroup in shared.get(charges.id, ()) if not _of(cgroup, target)))
        row, inside = file_row(charges, owners), charges.pages_of(home)
        usage.files.append(UsedFile(row, uses, deleted, others, inside, charges.device, charges.inode, private))
        unknown = (pages for inode, pages in charges.owners.items() if inode and owners.path(inode) is None)
        usage.unsettled_pages += sum(unknown)

    known = {file.id: file for file in used.files}
    for charges in attributor.charges(used.files, on_error=lambda error: usage.unreadable.append(str(error))):
        file = known[charges.id]
        add(charges, file.uses, file.deleted, _is_private(file))
    for charges in on_tmpfs:
        if charges.id not in known and charges.pages_of(home):
            add(charges, frozenset({Use.TMPFS}), False, False)
    return usage


def _is_private(file: ServiceFile) -> bool:
    """Whether the host has another file at that path, or none."""
    try:
        status = file.path.lstat()
    except OSError:
        return True
    return (status.st_dev, status.st_ino) != file.id


def map_owner(one: BpfMap, owners: Owners) -> Owner:
    """Who pays for a bpf map; pages are not counted for it."""
    return next(iter(named(owners, {one.owner: 0})), Owner("", "", 0))
