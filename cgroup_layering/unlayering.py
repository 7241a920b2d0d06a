# SPDX-License-Identifier: LGPL-2.1-or-later
"""Take services out of their layers: files, one reload, limits kept until the instance ends, empty layers stopped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cgroup_layering.domains.registry import keep_weights
from cgroup_layering.errors import KernelFileError
from cgroup_layering.holding.leaving import left_behind, stop_holders
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.kernel.latch import latch
from cgroup_layering.model import OwnFiles, Tracking
from cgroup_layering.moving import Progress, run_jobs, states
from cgroup_layering.naming import slice_path
from cgroup_layering.removal import remove_boot_link, remove_files, remove_held, remove_stray_drop_ins
from cgroup_layering.stopping import layers_there, stop_empty
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import SERVICE, UNIT, Manager
from cgroup_layering.transaction import Outcome
from cgroup_layering.unitpaths import ETC, RUN

_LIMITS = (
    "memory.max",
    "memory.high",
    "memory.low",
    "memory.min",
    "memory.swap.max",
    "pids.max",
    "cpu.max",
    "cpu.weight",
    "io.weight",
    "io.max",
    "cpuset.cpus",
)


def limits(fs: CgroupFS, cgroup: str) -> dict[str, str]:
    """The limits that a cgroup has in cgroupfs now, by file name."""
    found = {}
    for name in _LIMITS:
        try:
            found[name] = fs.read_text(cgroup, name)
        except KernelFileError:
            continue
    return found


class Unlayerer:
    """One run of `disable` or `rollback` on a live host."""

    def __init__(self, store: Store, manager: Manager, fs: CgroupFS, timeout: float, progress: Progress) -> None:
        self._store = store
        self._manager = manager
        self._fs = fs
        self._timeout = timeout
        self._progress = progress

    def run(
        self, own: Iterable[OwnFiles], restart: Iterable[str], kept: Mapping[str, str], slice_only: Iterable[str] = ()
    ) -> Outcome:
        """Remove the files of `own` and those drop-ins of ours that lost their slice file.

        `restart` are the units to restart at once if they run; `kept` says for others why they are not. Of the layers
        in `slice_only` no more than the slice file goes, as the drop-in leads to another one by now. Raises
        StoreError or BusError; what was removed until then is listed by a second run, which goes on from there.
        """
        own = tuple(own)
        restart, slice_only = frozenset(restart), frozenset(slice_only)
        outcome = Outcome()
        groups = self._control_groups(files.unit for files in own)
        # A unit can have files of two layers, of which it lives in one.
        lived = {files.layer: files.unit for files in own if self._in_layer(groups[files.unit], files.layer)}
        running = {unit: groups[unit] for unit in lived.values()}
        held = {unit: limits(self._fs, group) for unit, group in running.items()}
        for files in own:
            if files.layer in lived:
                latch(self._fs.directory(slice_path(files.layer)))
        for files in own:
            stays = files.layer in lived and files.unit not in restart
            if files.layer in slice_only:
                self._remove_slice(files, stays, outcome)
            else:
                self._remove(files, stays, outcome)
        outcome.removed.extend(remove_stray_drop_ins(self._store))
        stop_holders(self._manager, self._store, self._timeout)
        # Always: a run that was cut off after its last removal left the reload to this one.
        self._manager.reload()
        trackings = {files.unit: files.tracking for files in own}
        for unit, group in running.items():
            now = limits(self._fs, group) if self._fs.exists(group) else held[unit]
            changed = [name for name, value in held[unit].items() if now.get(name) != value]
            if trackings[unit] is Tracking.SERVICE:
                # The layer's I/O limits stay with its file; on 262 the reload gives the instance its own ones again.
                changed = [name for name in changed if not name.startswith("io.")]
            if changed and unit not in restart:
                text = f"{unit} lost {', '.join(changed)} of {group} until its next start; restart it."
                outcome.failed[unit] = text
        self._restart({unit: layer for layer, unit in lived.items() if unit in restart}, outcome)
        for unit in running:
            if unit not in restart:
                why = kept.get(unit, f"{unit} leaves its layer at its next start.")
                outcome.pending[unit] = f"{why} Until then its limits hold."
        self.stop_empty_layers(outcome)
        for files in own:
            if files.hold is not None and self._store.own().get(files.unit) is None:
                outcome.remarks.extend(left_behind(files.hold, self._store))
        outcome.remarks.extend(keep_weights(self._store, self._manager, self._fs))
        return outcome

    def _control_groups(self, units: Iterable[str]) -> dict[str, str]:
        props = self._manager.properties(units, SERVICE, ("ControlGroup",))
        return {unit: str(values.get("ControlGroup", "")) for unit, values in props.items()}

    def _in_layer(self, group: str, layer: str) -> bool:
        return group.startswith(slice_path(layer) + "/") and self._fs.exists(group)

    def _remove(self, files: OwnFiles, stays: bool, outcome: Outcome) -> None:
        """Remove one service's files; in `service` tracking the limits of a live instance are the layer's.

        They would go with the slice's file, so that file waits in /run, where a reboot takes it away.
        """
        if not files.slice_text:
            return  # no slice file of ours; a drop-in that is left goes with the strays
        # Where the drop-in was taken away before, systemd has taken the instance's own limits already.
        if stays and (files.tracking is Tracking.SERVICE or not files.complete):
            self._store.write(RUN / files.layer, files.slice_text)
            folders = (ETC,)
            drop_in = files.drop_in if files.drop_in.is_relative_to(RUN) else None
            if drop_in is not None and self._store.remove(drop_in):
                self._store.remove_folder(drop_in.parent)
                remove_held(self._store, RUN, files.unit)
            outcome.remarks.append(
                f"{RUN / files.layer} holds the limits of the running instance of {files.unit}; it goes with "
                f"`cgroup-layering disable --now {files.unit}`, with an update after its end or at the next boot."
            )
            if remove_files(self._store, files.unit, files.layer, folders) or drop_in is not None:
                outcome.removed.append(files.unit)
        elif remove_files(self._store, files.unit, files.layer):
            outcome.removed.append(files.unit)

    def _remove_slice(self, files: OwnFiles, stays: bool, outcome: Outcome) -> None:
        """Remove the slice file alone; as above it waits in /run where it holds the limits of a live instance."""
        waits = stays and files.tracking is Tracking.SERVICE
        if waits:
            self._store.write(RUN / files.layer, files.slice_text)
        path = ETC / files.layer if waits else files.slice_file
        remove_boot_link(self._store, path, listed=bool(files.wanted_by))
        if self._store.remove(path):
            outcome.removed.append(files.unit)

    def _restart(self, layers: Mapping[str, str], outcome: Outcome) -> None:
        if not layers:
            return
        refused = run_jobs(self._manager, "try-restart", layers, self._timeout, self._progress)
        for unit, state in states(self._manager, layers).items():
            inside = self._in_layer(state.control_group, layers[unit])
            if unit in refused:
                outcome.failed[unit] = refused[unit]
            elif state.up and inside:
                outcome.pending[unit] = f"{unit} was restarted, but processes of its last instance keep its layer."
            elif state.up or state.ended_well:
                outcome.moved.append(unit)
            else:
                outcome.failed[unit] = f"{unit} did not start again (result {state.result}); see its status."

    def stop_empty_layers(self, outcome: Outcome) -> None:
        """Stop every layer that has no file any more and in which nothing runs."""
        names = layers_there(self._manager, self._fs)
        props = self._manager.properties(names, UNIT, ("FragmentPath",))
        unowned = [name for name in names if not props[name].get("FragmentPath")]
        outcome.remarks.extend(stop_empty(self._manager, self._fs, unowned, self._timeout).values())
