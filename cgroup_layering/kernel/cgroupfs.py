# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading cgroup v2: which cgroups exist, their ids, and what their files say.

Source: Documentation/admin-guide/cgroup-v2.rst in the kernel's tree.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cgroup_layering.errors import HostUnsuitable, KernelFileError

CGROUP_ROOT = Path("/sys/fs/cgroup")
CGROUP2_SUPER_MAGIC = 0x63677270  # include/uapi/linux/magic.h
_STATFS_BUFFER = 256  # struct statfs has 120 bytes on 64-bit; f_type is its first word


class CgroupEntry(NamedTuple):
    """A cgroup met on a walk: its path as systemd's ControlGroup property gives it, and its id."""

    path: str
    inode: int


def _is_cgroup2(path: Path) -> bool:
    """Whether `path` lies on a cgroup2 file system (statfs(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(_STATFS_BUFFER)
    if libc.statfs(os.fsencode(path), buffer) != 0:
        number = ctypes.get_errno()
        raise KernelFileError(path, os.strerror(number))
    return ctypes.c_long.from_buffer(buffer).value == CGROUP2_SUPER_MAGIC


class CgroupFS:
    """The cgroup2 hierarchy below `root`.

    Cgroup paths are those of systemd's ControlGroup property: `/system.slice/x.service`, `/` or an empty
    string for the root. Every method raises KernelFileError with the path if the file can't be read.

    A `root` other than /sys/fs/cgroup (an image, a test) need not be a cgroup2 mount; a cgroup.controllers
    file in it is enough. Raises HostUnsuitable if `root` is no cgroup2 hierarchy.
    """

    def __init__(self, root: Path = CGROUP_ROOT) -> None:
        self.root = root
        if root == CGROUP_ROOT:
            suitable = root.is_dir() and _is_cgroup2(root)
        else:
            suitable = (root / "cgroup.controllers").is_file()
        if not suitable:
            raise HostUnsuitable(
                f"{root} is not a cgroup v2 hierarchy.",
                "Boot with systemd.unified_cgroup_hierarchy=1 and without cgroup v1 or hybrid mounts.",
            )

    def directory(self, cgroup: str) -> Path:
        """The folder of a cgroup. Raises ValueError if the path would leave the root."""
        parts = [part for part in cgroup.split("/") if part]
        if ".." in parts or "." in parts:
            raise ValueError(f"{cgroup!r} is not the path of a cgroup")
        return self.root.joinpath(*parts)

    def exists(self, cgroup: str) -> bool:
        """Whether the cgroup exists now."""
        return self.directory(cgroup).is_dir()

    def inode(self, cgroup: str) -> int:
        """The inode number of the cgroup's folder, which is the cgroup id of /proc/kpagecgroup."""
        directory = self.directory(cgroup)
        try:
            return directory.stat().st_ino
        except OSError as error:
            raise KernelFileError(directory, error.strerror or "unknown error") from error

    def read_text(self, cgroup: str, name: str) -> str:
        """The text of one of the cgroup's files, without the final newline."""
        path = self.directory(cgroup) / name
        try:
            return path.read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n")
        except OSError as error:
            raise KernelFileError(path, error.strerror or "unknown error") from error

    def read_int(self, cgroup: str, name: str) -> int | None:
        """The number in a single-value file (bytes for memory.*); None for `max`, which is no limit."""
        text = self.read_text(cgroup, name)
        if text == "max":
            return None
        try:
            return int(text)
        except ValueError:
            path = self.directory(cgroup) / name
            raise KernelFileError(path, "a number or `max` was expected", text) from None

    def keyed(self, cgroup: str, name: str) -> dict[str, int]:
        """A flat-keyed file, such as memory.stat, memory.events or cgroup.events."""
        result: dict[str, int] = {}
        for line in self.read_text(cgroup, name).splitlines():
            key, _, value = line.partition(" ")
            try:
                result[key] = int(value)
            except ValueError:
                path = self.directory(cgroup) / name
                raise KernelFileError(path, "`KEY NUMBER` was expected", line) from None
        return result

    def stat(self, cgroup: str) -> dict[str, int]:
        """memory.stat: bytes and event counts by key. `file` includes `shmem`."""
        return self.keyed(cgroup, "memory.stat")

    def events(self, cgroup: str) -> dict[str, int]:
        """cgroup.events: `populated` and `frozen` as 0 or 1."""
        return self.keyed(cgroup, "cgroup.events")

    def cgroup_stat(self, cgroup: str) -> dict[str, int]:
        """cgroup.stat: `nr_descendants`, `nr_dying_descendants`, on newer kernels more."""
        return self.keyed(cgroup, "cgroup.stat")

    def controllers(self, cgroup: str) -> frozenset[str]:
        """Controllers that are switched on for the cgroup itself (cgroup.controllers)."""
        return frozenset(self.read_text(cgroup, "cgroup.controllers").split())

    def subtree_control(self, cgroup: str) -> frozenset[str]:
        """Controllers that are switched on for the cgroup's children."""
        return frozenset(self.read_text(cgroup, "cgroup.subtree_control").split())

    def procs(self, cgroup: str) -> list[int]:
        """Process ids in this cgroup itself, not in its descendants, each once, in ascending order."""
        text = self.read_text(cgroup, "cgroup.procs")
        try:
            # 0 stands for a process outside the reader's pid namespace; a pid can be listed twice
            return sorted({pid for pid in map(int, text.split()) if pid})
        except ValueError:
            path = self.directory(cgroup) / "cgroup.procs"
            raise KernelFileError(path, "process ids were expected", text[:40]) from None

    def procs_recursive(self, cgroup: str) -> list[int]:
        """Process ids in this cgroup and below it; cgroups that vanish meanwhile are left out."""
        result: set[int] = set()
        for entry in self.walk(cgroup):
            try:
                result.update(self.procs(entry.path))
            except KernelFileError:
                if self.exists(entry.path):
                    raise
        return sorted(result)

    def children(self, cgroup: str) -> list[str]:
        """Paths of the cgroups directly below, sorted."""
        directory = self.directory(cgroup)
        try:
            with os.scandir(directory) as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError as error:
            raise KernelFileError(directory, error.strerror or "unknown error") from error
        prefix = "/" + "/".join(part for part in cgroup.split("/") if part)
        return [f"{prefix.rstrip('/')}/{name}" for name in names]

    def services(self) -> dict[str, list[str]]:
        """The cgroups of services, by the service's name: all that are in slices, not those below a service.

        systemd puts `_` before names that the kernel might take for a file of its own (src/basic/cgroup-util.c,
        `cg_escape`).
        """
        found: dict[str, list[str]] = {}
        stack = [""]
        while stack:
            above = stack.pop()
            try:
                with os.scandir(f"{self.root}{above}") as entries:
                    names = [
                        entry.name
                        for entry in entries
                        if entry.name.endswith((".service", ".slice")) and entry.is_dir(follow_symlinks=False)
                    ]
            except OSError:
                continue
            for name in names:
                if name.endswith(".slice"):
                    stack.append(f"{above}/{name}")
                else:
                    found.setdefault(name.removeprefix("_"), []).append(f"{above}/{name}")
        return found

    def walk(self, cgroup: str = "/") -> Iterator[CgroupEntry]:
        """The cgroup and everything below it, parents first, one at a time.

        Cgroups that vanish while the walk is under way are left out. Raises KernelFileError if the
        cgroup to start from does not exist.
        """
        start = "/" + "/".join(part for part in cgroup.split("/") if part)
        stack = [CgroupEntry(start, self.inode(cgroup))]
        while stack:
            entry = stack.pop()
            yield entry
            prefix = entry.path.rstrip("/")
            try:
                with os.scandir(self.directory(entry.path)) as found:
                    below = [
                        CgroupEntry(f"{prefix}/{child.name}", child.inode())
                        for child in found
                        if child.is_dir(follow_symlinks=False)
                    ]
            except OSError:
                continue
            stack.extend(sorted(below, reverse=True))
