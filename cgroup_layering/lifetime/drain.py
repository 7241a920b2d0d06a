# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reclaim a cgroup's memory in steps, through memory.reclaim (cgroup-v2.rst; Linux 5.19)."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cgroup_layering.errors import CgroupLayeringError, KernelFileError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.kernel.reclaim import TimeIsUp, reclaim

STEP_BYTES = 16 << 20
GAIN_BYTES = 64 << 10
"""A step that brings less than this is the last but a few."""
EMPTY_STEPS = 3
FILE = "memory.reclaim"

Progress = Callable[[int, int], None]
"""Called with the bytes still charged and those at the start."""


class CannotDrain(CgroupLayeringError):
    """This kernel or this cgroup has no memory.reclaim."""

    hint = "It takes Linux 5.19 and the memory controller."

    def __init__(self, cgroup: str) -> None:
        super().__init__(cgroup)
        self.cgroup = cgroup

    def __str__(self) -> str:
        return f"{cgroup_file(self.cgroup)} does not exist, so the memory of {self.cgroup} can't be reclaimed."


def cgroup_file(cgroup: str) -> str:
    """The path of the file, as people know it."""
    return f"/sys/fs/cgroup{cgroup}/{FILE}"


class Stopped(StrEnum):
    """Why a drain ended."""

    DONE = "done"
    NOTHING_MORE = "nothing more could be reclaimed"
    DEADLINE = "the time was up"
    GONE = "the cgroup went meanwhile"


@dataclass(frozen=True, slots=True)
class Drained:
    """What a drain did; bytes."""

    before_bytes: int
    after_bytes: int
    swap_before_bytes: int
    swap_after_bytes: int
    stopped: Stopped

    @property
    def reclaimed_bytes(self) -> int:
        """What the cgroup is no longer charged for, swap counted."""
        before, after = self.before_bytes + self.swap_before_bytes, self.after_bytes + self.swap_after_bytes
        return max(0, before - after)


def charged(fs: CgroupFS, cgroup: str) -> tuple[int, int]:
    """memory.current and memory.swap.current in bytes. Raises KernelFileError where the first is missing."""
    current = fs.read_int(cgroup, "memory.current") or 0
    try:
        swap = fs.read_int(cgroup, "memory.swap.current") or 0
    except KernelFileError:
        swap = 0
    return current, swap


def left(fs: CgroupFS, cgroup: str) -> dict[str, int]:
    """What a cgroup is charged with in memory, by kind, in bytes (cgroup-v2.rst, "memory.stat").

    tmpfs and anonymous memory can only go to swap, kernel memory goes with what it is for. Raises KernelFileError.
    """
    stat = fs.stat(cgroup)
    cache = stat.get("file", 0) - stat.get("shmem", 0)
    kinds = {"tmpfs": stat.get("shmem", 0), "anonymous": stat.get("anon", 0), "kernel": stat.get("kernel", 0)}
    return {**kinds, "cache": max(0, cache)}


def drain(
    fs: CgroupFS,
    cgroup: str,
    *,
    floor_bytes: int = 0,
    seconds: float = 60.0,
    swap: bool = False,
    enough: Callable[[], bool] = lambda: False,
    progress: Progress = lambda _now, _start: None,
    clock: Callable[[], float] = time.monotonic,
) -> Drained:
    """Reclaim until no more than `floor_bytes` are charged, it is `enough`, nothing more comes, or `seconds` are over.

    Anonymous memory and tmpfs go to swap only with `swap`, where the kernel can be told so (swappiness= of Linux 6.9);
    what is swapped out stays charged, so it is no gain for a layer that is to go. Raises CannotDrain, KernelFileError.
    """
    path = fs.directory(cgroup) / FILE
    start, swap_start = charged(fs, cgroup)
    now, swapped, barren = start, swap_start, 0
    deadline = clock() + seconds
    option = "" if swap else " swappiness=0"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise CannotDrain(cgroup) from error
    except OSError as error:
        raise KernelFileError(path, error.strerror or "unknown error") from error
    stopped = Stopped.DONE
    try:
        while now > floor_bytes and not enough():
            if clock() > deadline:
                stopped = Stopped.DEADLINE
                break
            wanted = min(STEP_BYTES, now - floor_bytes)
            try:
                reclaim(descriptor, f"{wanted}{option}", deadline - clock())
            except TimeIsUp:
                stopped = Stopped.DEADLINE
                now, swapped = charged(fs, cgroup)
                break
            except OSError as error:
                if error.errno == errno.EINVAL and option:
                    option = ""  # Linux before 6.9
                    continue
                if error.errno == errno.ENODEV:
                    stopped = Stopped.GONE
                    break
                if error.errno != errno.EAGAIN:
                    raise KernelFileError(path, error.strerror or "unknown error") from error
            before = now
            now, swapped = charged(fs, cgroup)
            progress(now, start)
            barren = barren + 1 if before - now < GAIN_BYTES else 0
            if barren >= EMPTY_STEPS:
                stopped = Stopped.DONE if now <= floor_bytes else Stopped.NOTHING_MORE
                break
    finally:
        os.close(descriptor)
    return Drained(start, now, swap_start, swapped, stopped)
