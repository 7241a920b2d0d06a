# SPDX-License-Identifier: LGPL-2.1-or-later
"""The instances of a service, from what PID 1 wrote when they started and ended, and from cgroupfs for the live one.

Nothing here records anything. What systemd does not write is not known, and is said so: of an instance with less than 1
s of processor time, 64 MiB of memory, 1 MiB of I/O and no IP traffic it writes no resources message at its usual log
level (src/core/unit.c, `unit_log_resources`), and each figure only where it counts (IOAccounting= and the like).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from cgroup_layering.errors import KernelFileError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.systemd.journal import Entry, Message

_FIGURES = {
    "cpu_nsec": "CPU_USAGE_NSEC",
    "io_read_bytes": "IO_METRIC_READ_BYTES",
    "io_write_bytes": "IO_METRIC_WRITE_BYTES",
    "ip_ingress_bytes": "IP_METRIC_INGRESS_BYTES",
    "ip_egress_bytes": "IP_METRIC_EGRESS_BYTES",
    "memory_peak_bytes": "MEMORY_PEAK",
    "swap_peak_bytes": "MEMORY_SWAP_PEAK",
}


@dataclass(slots=True)
class Instance:
    """One instance; times in microseconds since 1970, sizes in bytes, None where nothing tells."""

    invocation: str
    started_usec: int | None = None
    ended_usec: int | None = None
    result: str = ""
    """systemd's word for how it ended, such as `success` or `exit-code`; empty where nothing tells."""
    live: bool = False
    recorded: bool = False
    """Whether systemd wrote what it used, or its cgroup could be read."""
    cpu_nsec: int | None = None
    io_read_bytes: int | None = None
    io_write_bytes: int | None = None
    ip_ingress_bytes: int | None = None
    ip_egress_bytes: int | None = None
    memory_peak_bytes: int | None = None
    swap_peak_bytes: int | None = None
    left_bytes: int | None = None
    """What the layer is charged with now of what it left; None where that can't be told."""
    left_why: str = ""
    """Why `left_bytes` is not known, in a sentence."""

    @property
    def left_at_most_bytes(self) -> int | None:
        """What it can have left when it ended: no more than it was charged with at its peak."""
        if self.live or self.memory_peak_bytes is None:
            return None
        return self.memory_peak_bytes + (self.swap_peak_bytes or 0)


@dataclass(frozen=True, slots=True)
class Now:
    """The service as it is: the invocation that runs, with its start and cgroup, and its layer."""

    invocation: str = ""
    started_usec: int | None = None
    control_group: str = ""
    layered: bool = False
    layer_since_usec: int | None = None
    """Since when the layer's slice is active; None where it is not."""
    outlived_bytes: int | None = None
    """What all former instances left in the layer; None where only the layer counts memory."""


def instances(
    entries: Iterable[Entry],
    now: Now,
    fs: CgroupFS,
    lines: int | None = None,
    oldest_usec: int | None = None,
    since_usec: int | None = None,
) -> list[Instance]:
    """The last `lines` instances that had not ended by `since_usec`, the oldest first, from entries newest first.

    An instance's messages stand together, so reading ends with the first one of an instance more than is wanted, and
    that is known of the layer: whether one instance alone ended in it. `oldest_usec` is how far back the journal goes.
    """
    found: dict[str, Instance] = {}
    if now.invocation:
        found[now.invocation] = Instance(now.invocation, started_usec=now.started_usec, live=True)
    since = now.layer_since_usec
    for entry in entries:
        if entry.invocation not in found:
            old = since_usec is not None and entry.when < since_usec
            full = old or (lines is not None and len(found) >= lines)
            if full and (since is None or entry.when < since or len(_ended_since(found.values(), since)) > 1):
                break
            found[entry.invocation] = Instance(entry.invocation)
        _take(found[entry.invocation], entry)
    if now.invocation:
        _measure(found[now.invocation], now, fs)
    rows = sorted(found.values(), key=lambda one: (one.live, one.ended_usec or one.started_usec or 0))
    _tell_left(rows, now, complete=since is not None and oldest_usec is not None and oldest_usec < since)
    shown = [
        one for one in rows if one.live or since_usec is None or (one.ended_usec or one.started_usec or 0) >= since_usec
    ]
    return shown if lines is None else shown[-lines:]


def _take(one: Instance, entry: Entry) -> None:
    if entry.message in (Message.STARTING, Message.STARTED):
        # The first of the two: not every start is announced, and not every one succeeds.
        one.started_usec = entry.when if one.started_usec is None else min(one.started_usec, entry.when)
        return
    if one.live:
        return
    one.ended_usec = max(one.ended_usec or 0, entry.when)
    if entry.message is Message.SUCCEEDED:
        one.result = "success"
    elif entry.message is Message.FAILED:
        one.result = entry.fields.get("UNIT_RESULT", "failed")
    elif entry.message is Message.RESOURCES:
        one.recorded = True
        for name, key in _FIGURES.items():
            if entry.fields.get(key, "").isdigit():
                setattr(one, name, int(entry.fields[key]))


def _measure(one: Instance, now: Now, fs: CgroupFS) -> None:
    """The figures of the live instance, from its cgroup."""
    group = now.control_group
    if not group or not fs.exists(group):
        return
    one.recorded = True
    one.memory_peak_bytes = _number(fs, group, "memory.peak")
    one.swap_peak_bytes = _number(fs, group, "memory.swap.peak")
    with contextlib.suppress(KernelFileError):
        one.cpu_nsec = fs.keyed(group, "cpu.stat")["usage_usec"] * 1000
    with contextlib.suppress(KernelFileError):
        words = [word.partition("=") for word in fs.read_text(group, "io.stat").split()]
        one.io_read_bytes = sum(int(value) for key, _, value in words if key == "rbytes")
        one.io_write_bytes = sum(int(value) for key, _, value in words if key == "wbytes")


def _number(fs: CgroupFS, cgroup: str, name: str) -> int | None:
    try:
        return fs.read_int(cgroup, name)
    except KernelFileError:
        return None


def _ended_since(rows: Iterable[Instance], since: int) -> list[Instance]:
    return [one for one in rows if not one.live and one.ended_usec is not None and one.ended_usec >= since]


def _tell_left(rows: Iterable[Instance], now: Now, complete: bool) -> None:
    """What each instance left: to be told apart only where a single one has ended in the layer that is there now."""
    rows = tuple(rows)
    ended = [] if now.layer_since_usec is None else _ended_since(rows, now.layer_since_usec)
    for one in rows:
        if one.live:
            one.left_why = "It runs."
        elif not now.layered:
            one.left_why = "The service is not layered: what its instances leave goes to its slice, with all the rest."
        elif one not in ended:
            one.left_why = "The layer that is there now came after its end."
        elif now.outlived_bytes is None:
            one.left_why = "Only the layer counts memory, so instances can't be told apart."
        elif len(ended) == 1 and complete:
            one.left_bytes = now.outlived_bytes
        else:
            one.left_why = "Only the sum of what the instances left that ended in this layer is known."
