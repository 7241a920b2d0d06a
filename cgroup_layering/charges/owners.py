# SPDX-License-Identifier: LGPL-2.1-or-later
"""From the inode numbers that the kernel reports to cgroups and the units they belong to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from cgroup_layering.kernel.cgroupfs import CgroupEntry, CgroupFS

ROOT_SLICE = "-.slice"
_UNIT_SUFFIXES = (".service", ".slice", ".scope", ".socket", ".mount", ".swap")


def unit_of(path: str) -> str:
    """The unit that a cgroup belongs to: its path's last component that is a unit's name, else `-.slice`.

    systemd puts an underscore before unit names that would clash with kernel files (cg_escape() in
    src/basic/cgroup-util.c); it is taken off here. Folders below a unit (Delegate=) belong to that unit.
    """
    for part in reversed(path.split("/")):
        if part.endswith(_UNIT_SUFFIXES):
            return part.removeprefix("_")
    return ROOT_SLICE


class Owners:
    """A still picture of all cgroups: inode numbers, paths, units."""

    def __init__(self, entries: Iterable[CgroupEntry]) -> None:
        self._paths: dict[int, str] = {}
        self._inodes: dict[str, int] = {}
        for entry in entries:
            self._paths[entry.inode] = entry.path
            self._inodes[entry.path] = entry.inode

    @classmethod
    def scan(cls, cgroups: CgroupFS) -> Self:
        """Take the picture in one walk. Raises KernelFileError if the root can't be read."""
        return cls(cgroups.walk())

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, inode: int) -> str | None:
        """The path of the cgroup with this inode number; None if it was not in the picture."""
        return self._paths.get(inode)

    def inode(self, path: str) -> int | None:
        """The inode number of the cgroup at this path; None if there was none."""
        return self._inodes.get("/" + path.strip("/"))

    def unit(self, inode: int) -> str | None:
        """The unit of the cgroup with this inode number; None if the cgroup is not known."""
        path = self._paths.get(inode)
        return None if path is None else unit_of(path)

    def below(self, path: str) -> frozenset[int]:
        """Inode numbers of the cgroup at this path and of everything below it; empty if there is none."""
        top = "/" + path.strip("/")
        prefix = top.rstrip("/") + "/"
        return frozenset(inode for name, inode in self._inodes.items() if name == top or name.startswith(prefix))

    def paths(self) -> list[str]:
        """All paths, parents before their children."""
        return list(self._inodes)
