# SPDX-License-Identifier: LGPL-2.1-or-later
"""A layer's cgroup goes: drained, what is left named, stopped so that a service which starts meanwhile stays up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from cgroup_layering.charges.bpf_maps import BpfMap
from cgroup_layering.charges.contents import Charged, contents
from cgroup_layering.errors import CgroupLayeringError, KernelFileError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.lifetime.drain import CannotDrain, Drained, Progress, charged, drain
from cgroup_layering.moving import run_jobs
from cgroup_layering.naming import slice_path
from cgroup_layering.spans import format_size
from cgroup_layering.stopping import populated, stop_empty
from cgroup_layering.systemd.manager import Manager

Shown = Callable[[str], AbstractContextManager[Progress]]
"""Shows how the draining of a layer goes on."""
NAMED = 10
"""Objects that are named in a report; the rest is in the sum."""
SEARCHES = 20
"""Layers of a run whose residue is looked for by name: each costs a look at all pages of the host."""


@dataclass
class Departure:
    """What became of one layer. Bytes."""

    layer: str
    unit: str
    why: str
    drained: Drained | None = None
    residue_bytes: int = 0
    residue: list[Charged] = field(default_factory=list)
    parent: str = ""
    """The cgroup that is charged for the residue from then on."""
    gone: bool = False
    kept: str = ""
    """Why it stays after all, as a sentence."""
    forced: bool = False


def _unseen(_now: int, _start: int) -> None:
    """A drain that nobody watches."""


class Remover:
    """Removes layers one by one: each is emptied, looked at once more and stopped. Every call has a deadline."""

    def __init__(
        self, manager: Manager, fs: CgroupFS, *, residue_bytes: int, drain_seconds: float, force: bool,
        timeout: float = 60.0, maps: Iterable[BpfMap] = (), shown: Shown = lambda _layer: nullcontext(_unseen),
    ) -> None:  # fmt: skip
        self._manager = manager
        self._fs = fs
        self._residue_bytes = residue_bytes
        self._drain_seconds = drain_seconds
        self._force = force
        self._timeout = timeout
        self._maps = tuple(maps)
        self.shown = shown
        self._searches = SEARCHES

    def empty(self, layer: str, unit: str, why: str) -> Departure:
        """Drain a layer unless something runs in it; `kept` says why it can't go. Takes its time, and stops nothing."""
        result = Departure(layer, unit, why, forced=self._force)
        cgroup = slice_path(layer)
        result.parent = cgroup.rpartition("/")[0] or "/"
        if populated(self._fs, cgroup):
            result.kept = f"{layer} has running processes."
            return result
        if self._fs.exists(cgroup):
            self._drain(cgroup, result)
        return result

    def stays(self, departure: Departure) -> bool:
        """Whether a layer that was emptied has been used since: something runs in it, or has left more than may be."""
        cgroup = slice_path(departure.layer)
        if populated(self._fs, cgroup):
            departure.kept = f"{departure.unit} has started meanwhile."
        elif not self._force and self._fs.exists(cgroup):
            try:
                size = sum(charged(self._fs, cgroup))
            except KernelFileError:
                size = 0  # no memory controller
            if size > self._residue_bytes:
                departure.kept = f"{departure.layer} holds {format_size(size)} again: {departure.unit} ran meanwhile."
        return bool(departure.kept)

    def _drain(self, cgroup: str, result: Departure) -> None:
        try:
            with self.shown(result.layer) as progress:
                result.drained = drain(self._fs, cgroup, seconds=self._drain_seconds, progress=progress)
        except CannotDrain:
            pass  # without the memory controller nothing is charged to it
        except KernelFileError:
            if self._fs.exists(cgroup):
                raise
        try:
            result.residue_bytes = sum(charged(self._fs, cgroup))
        except KernelFileError:
            return
        if result.residue_bytes > self._residue_bytes or (self._force and result.residue_bytes):
            result.residue = self._names(cgroup)
            names = ", ".join(f"{one.name} ({format_size(one.size_bytes)})" for one in result.residue[:NAMED])
            if self._searches == 0 and not names:
                names = f"`cgroup-layering charges --cgroup {cgroup}` names it"
            result.kept = "" if self._force else (
                f"{result.layer} still holds {format_size(result.residue_bytes)}, which would go to {result.parent}: "
                f"{names or 'nothing that has a name'}."
            )  # fmt: skip

    def _names(self, cgroup: str) -> list[Charged]:
        if self._searches == 0:
            return []
        self._searches -= 1
        try:
            found = contents(cgroup, self._fs, maps=self._maps, disks=False)
        except CgroupLayeringError:  # the kernel's files are closed here: the sum has to do
            return []
        return [one for one in found.largest if one.size_bytes]

    def stop(self, result: Departure) -> None:
        """Stop the slice of a layer that was emptied. Raises BusError."""
        layer, cgroup = result.layer, slice_path(result.layer)
        failed = stop_empty(self._manager, self._fs, [layer], self._timeout)
        if populated(self._fs, cgroup):
            # The service came in between: it runs, and its layer is made active again.
            run_jobs(self._manager, "start", [layer], self._timeout, lambda *_: None)
            result.kept = f"{result.unit} has started meanwhile; its layer is active again."
        elif failed:
            result.kept = failed[layer]
        elif self._fs.exists(cgroup):
            result.kept = f"systemd stopped {layer}, but its cgroup is still there."
        else:
            result.gone = True
