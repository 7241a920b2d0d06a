# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which of a service's files can be rehomed, and why the others can't. No I/O."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from cgroup_layering.charges.service_files import Use
from cgroup_layering.charges.usage import Usage, UsedFile
from cgroup_layering.kernel.mounts import Mount


class Left(StrEnum):
    """Why pages stay where they are charged."""

    SHARED = "shared with others"
    DELETED = "of deleted files"
    PRIVATE = "of files that only the service can reach"
    TMPFS = "on tmpfs"
    MAPPED = "mapped"
    IN_USE = "in use"


@dataclass(frozen=True)
class Choice:
    """What is to be done for one service."""

    unit: str
    layer: str
    evict: tuple[UsedFile, ...] = ()
    recopy: tuple[UsedFile, ...] = ()
    left: dict[Left, int] = field(default_factory=dict)
    """Pages that are not touched, by reason."""

    @property
    def files(self) -> tuple[UsedFile, ...]:
        """All files that are touched."""
        return self.evict + self.recopy


def memory_devices(mounts: Iterable[Mount]) -> frozenset[int]:
    """Device numbers of tmpfs and its relatives."""
    pairs = (mount.device.split(":") for mount in mounts if mount.is_memory)
    return frozenset(os.makedev(int(major), int(minor)) for major, minor in pairs)


def reason_to_leave(used: UsedFile, memory: frozenset[int], shared: bool) -> Left | None:
    """Why a file with pages outside its layer is left alone; None if it is not.

    `shared` says that files which other services map are wanted too.
    """
    if used.deleted:
        return Left.DELETED
    if used.private:
        return Left.PRIVATE
    if used.shared_with and not shared:
        return Left.SHARED
    if used.device in memory:
        return Left.TMPFS
    return None


def choose(usage: Usage, layer: str, memory: frozenset[int], shared: bool, tmpfs: bool) -> Choice:
    """Sort a service's files into those to evict, those on tmpfs to copy (if `tmpfs`), and those to leave."""
    evict, recopy = [], []
    left: Counter[Left] = Counter()
    for used in usage.files:
        if not used.outside_pages:
            continue
        reason = reason_to_leave(used, memory, shared)
        if reason is None:
            evict.append(used)
        elif reason is Left.TMPFS and tmpfs:
            recopy.append(used)
        else:
            left[reason] += used.outside_pages
    return Choice(usage.target.unit, layer, tuple(evict), tuple(recopy), dict(left))


def left_after(usage: Usage, memory: frozenset[int]) -> dict[Left, int]:
    """Pages charged outside the layer after all, by reason."""
    left: Counter[Left] = Counter()
    for used in usage.files:
        if used.outside_pages:
            mapped = Left.MAPPED if used.uses & {Use.MAPPED, Use.EXECUTABLE} else Left.IN_USE
            left[reason_to_leave(used, memory, shared=False) or mapped] += used.outside_pages
    return dict(left)
