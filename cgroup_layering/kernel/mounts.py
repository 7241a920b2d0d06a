# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mounted file systems, from /proc/PID/mountinfo (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cgroup_layering.errors import KernelFileError

_OCTAL = re.compile(rb"\\([0-7]{3})")

MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
"""File systems whose files are memory and nothing else."""
NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "autofs", "glusterfs"})
"""File systems that a walk could hang on. FUSE counts too: its names begin with `fuse`."""


@dataclass(frozen=True)
class Mount:
    """One mount point; `device` is major:minor as text, `options` those of the mount and of the file system."""

    point: Path
    kind: str
    device: str
    source: str
    options: frozenset[str] = frozenset()

    @property
    def is_memory(self) -> bool:
        """tmpfs and its relatives."""
        return self.kind in MEMORY

    @property
    def is_disk(self) -> bool:
        """A file system with page cache that is safe to walk: on a block device of this host, or on top of one."""
        local = self.kind not in NETWORK and not self.kind.startswith("fuse")
        return local and (self.source.startswith("/dev/") or self.kind in ("overlay", "btrfs", "zfs"))


def parse_mounts(text: bytes) -> list[Mount]:
    """The mounts in the text of a mountinfo file, in its order; lines that make no sense are passed over."""
    found = []
    for line in text.splitlines():
        head, separator, tail = line.partition(b" - ")
        fields, rest = head.split(b" "), tail.split(b" ")
        if not separator or len(fields) < 5 or len(rest) < 2:
            continue
        found.append(
            Mount(
                Path(_plain(fields[4])), rest[0].decode(errors="replace"), fields[2].decode(errors="replace"),
                _plain(rest[1]), _options(*fields[5:6], *rest[2:3]),
            )
        )  # fmt: skip
    return found


def mounts(process: Path = Path("/proc/self")) -> list[Mount]:
    """What is mounted as a process sees it. Raises KernelFileError."""
    path = process / "mountinfo"
    try:
        return parse_mounts(path.read_bytes())
    except OSError as error:
        raise KernelFileError(path, error.strerror or "unknown error") from error


def _options(*fields: bytes) -> frozenset[str]:
    return frozenset(option for field in fields for option in field.decode(errors="replace").split(",") if option)


def _plain(field: bytes) -> str:
    text = _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field)
    return text.decode(errors="surrogateescape")
