# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is known about the charges of a file. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple


class FileId(NamedTuple):
    """What makes two names the same file."""

    device: int
    inode: int


class FileCharges(NamedTuple):
    """The resident pages of one file, by the inode number of the cgroup they are charged to (0: none).

    A tuple, because making a dataclass would be a tenth of the time that a small file takes.
    """

    name: str
    """Its path, as it was named or as the process that uses it sees it."""
    device: int
    inode: int
    size_bytes: int
    resident_pages: int
    """Pages in memory at the first look, including those that raced away before their owner was known."""
    owners: Mapping[int, int]
    owners_unmapped: Mapping[int, int] | None
    """The same for the pages that no process but this one maps; None if it was not asked for."""
    raced_pages: int
    """Pages that came, went or moved while they were looked at; they are not among `owners`."""

    @property
    def path(self) -> Path:
        """Its path."""
        return Path(self.name)

    @property
    def id(self) -> FileId:
        """Device and inode number."""
        return FileId(self.device, self.inode)

    @property
    def charged_pages(self) -> int:
        """Pages charged to any cgroup."""
        return sum(pages for inode, pages in self.owners.items() if inode)

    @property
    def mapped_by_others(self) -> int | None:
        """Pages that other processes map; None if it was not asked for."""
        if self.owners_unmapped is None:
            return None
        return sum(self.owners.values()) - sum(self.owners_unmapped.values())

    def pages_of(self, inodes: Collection[int], *, unmapped_only: bool = False) -> int:
        """Pages charged to any of these cgroups. Raises ValueError for `unmapped_only` if not asked for."""
        owners = self.owners
        if unmapped_only:
            if self.owners_unmapped is None:
                raise ValueError("mappings were not counted")
            owners = self.owners_unmapped
        return sum(pages for inode, pages in owners.items() if inode in inodes)
