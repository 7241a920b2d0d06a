# SPDX-License-Identifier: LGPL-2.1-or-later
"""Charges by file and by cgroup, in the words that tables and JSON use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cgroup_layering.charges.files import Attributor
from cgroup_layering.charges.model import FileCharges
from cgroup_layering.charges.owners import Owners
from cgroup_layering.charges.processes import Misses
from cgroup_layering.charges.trees import regular_files
from cgroup_layering.kernel.pfnfile import PAGE_SIZE


@dataclass(frozen=True, slots=True)
class Owner:
    """Who pays for some pages; `cgroup` is empty where nobody does or the cgroup came or went meanwhile."""

    cgroup: str
    unit: str
    pages: int

    @property
    def size_bytes(self) -> int:
        """The pages in bytes."""
        return self.pages * PAGE_SIZE


@dataclass(frozen=True, slots=True)
class FileRow:
    """One file: its pages in memory and who pays for them, the largest share first."""

    path: str
    size_bytes: int
    resident_pages: int
    raced_pages: int
    owners: tuple[Owner, ...]


def named(owners: Owners, pages: Mapping[int, int]) -> tuple[Owner, ...]:
    """Cgroup inode numbers as cgroups and units, the largest share first."""
    found = [Owner(owners.path(inode) or "", owners.unit(inode) or "", count) for inode, count in pages.items()]
    return tuple(sorted(found, key=lambda owner: (-owner.pages, owner.cgroup)))


def file_row(charges: FileCharges, owners: Owners) -> FileRow:
    """One file's charges as a row."""
    return FileRow(
        str(charges.path),
        charges.size_bytes,
        charges.resident_pages,
        charges.raced_pages,
        named(owners, charges.owners),
    )


@dataclass
class Listing:
    """Files one after the other, and sums of those that went by."""

    owners: Owners
    misses: Misses = field(default_factory=Misses)
    files: int = 0
    resident_pages: int = 0
    raced_pages: int = 0
    by_cgroup: dict[int, int] = field(default_factory=dict)
    """Pages by cgroup inode number."""

    def rows(self, paths: Iterable[Path]) -> Iterator[FileRow]:
        """A row for each regular file at or below `paths`, in the order found; memory used does not grow with them.

        Raises UnreadableFile for a path that is neither file nor folder, KernelFileError or NotPrivileged where the
        kernel's files are missing or closed to the caller. A file below a folder that can't be read is noted.
        """
        paths = tuple(paths)
        named_files = {path for path in paths if not path.is_dir()}

        def note(error: Exception) -> None:
            if getattr(error, "path", None) in named_files:
                raise error
            self.misses.unreadable.append(str(error))

        with Attributor() as attributor:
            for charges in attributor.charges(regular_files(paths, self.misses), on_error=note):
                self.files += 1
                self.resident_pages += charges.resident_pages
                self.raced_pages += charges.raced_pages
                for inode, pages in charges.owners.items():
                    self.by_cgroup[inode] = self.by_cgroup.get(inode, 0) + pages
                yield file_row(charges, self.owners)

    def cgroups(self) -> tuple[Owner, ...]:
        """The sums by cgroup so far, the largest first."""
        return named(self.owners, self.by_cgroup)
