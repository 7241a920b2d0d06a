# SPDX-License-Identifier: LGPL-2.1-or-later
"""Carry out a plan: files, one reload, and with `now` one restart per service that may be restarted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.kernel.latch import LATCH, latch, unlatch
from cgroup_layering.model import Change, Host, Plan, ServicePlan, Timing
from cgroup_layering.moving import Progress, State, run_jobs, states
from cgroup_layering.naming import slice_path
from cgroup_layering.removal import remove_files
from cgroup_layering.settling import settle
from cgroup_layering.stopping import stop_empty
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import Manager
from cgroup_layering.transaction import FileTransaction, Outcome, write_plan


class Layerer:
    """One run of `migrate` or `enable` on a host, or on the files below a root where `manager` is None."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        manager: Manager | None,
        timeout: float,
        progress: Progress,
        before_restart: Callable[[list[ServicePlan]], None] = lambda _movers: None,
    ) -> None:
        self._store = store
        self._folder = folder
        self._manager = manager
        self._timeout = timeout
        self._progress = progress
        self._before_restart = before_restart

    def run(self, plan: Plan, host: Host, now: bool, reload: bool = True) -> Outcome:
        """Apply `plan`; raises StoreError or BusError with everything undone.

        A service that does not come up in its layer is taken out of it again and listed in `failed`.
        """
        manager = self._manager
        # A run that was cut off between its writes and its reload leaves systemd with the old settings.
        stale = any(
            service.layering is not None and host.services[service.unit].slice != service.layering.layer
            for service in plan.layered
        )
        wanted = reload and (bool(plan.changes) or stale)
        latched = self._unlatch(plan) if manager is not None else []
        try:
            transaction, outcome = write_plan(plan.layered, self._store, self._folder, manager, wanted)
        except BaseException:
            for folder in latched:
                latch(folder)
            raise
        sound = [service for service in plan.layered if service.unit not in outcome.failed]
        if manager is None:
            return outcome
        if wanted:
            updated = [s.layering.layer for s in sound if s.layering is not None and s.change is Change.UPDATE]
            outcome.remarks.extend(settle(manager, CgroupFS(), updated))
        movers = []
        for service in sound:
            if service.timing is Timing.RESTART and now and reload:
                movers.append(service)
            elif service.timing is Timing.RESTART:
                outcome.pending[service.unit] = f"{service.unit} gets into its layer at its next start."
            elif service.reasons:
                why = service.reasons[0].sentence
                outcome.pending[service.unit] = f"{why} It gets into its layer at its {service.timing}."
        if movers:
            self._move(manager, movers, transaction, outcome)
        return outcome

    @staticmethod
    def _unlatch(plan: Plan) -> list[Path]:
        """Let go of controllers that an earlier `disable` held, as the tracking may want them off; the folders."""
        fs = CgroupFS()
        folders = [fs.directory(slice_path(s.layering.layer)) for s in plan.layered if s.layering is not None]
        latched = [folder for folder in folders if (folder / LATCH).is_dir()]
        for folder in latched:
            unlatch(folder)
        return latched

    def _move(
        self, manager: Manager, movers: list[ServicePlan], transaction: FileTransaction, outcome: Outcome
    ) -> None:
        units = [service.unit for service in movers]
        self._before_restart(movers)
        refused = run_jobs(manager, "try-restart", units, self._timeout, self._progress)
        after = states(manager, units)
        broken: dict[str, ServicePlan] = {}
        for service in movers:
            unit, state = service.unit, after[service.unit]
            inside = service.layering is not None and state.control_group.startswith(
                slice_path(service.layering.layer) + "/"
            )
            if state.up and inside and unit not in refused:
                outcome.moved.append(unit)
            elif unit in refused and (state.up or state.active_state == "deactivating"):
                outcome.failed[unit] = refused[unit]
            elif state.up:
                outcome.pending[unit] = (
                    f"{unit} was restarted, but processes of its last instance keep {state.control_group} in use. "
                    "It gets into its layer at its next start without leftovers."
                )
            elif state.ended_well:
                outcome.pending[unit] = f"{unit} ended by itself. It gets into its layer at its next start."
            else:
                broken[unit] = service
        if broken:
            self._take_out(manager, broken, after, transaction, outcome)

    def _take_out(
        self,
        manager: Manager,
        broken: dict[str, ServicePlan],
        after: Mapping[str, State],
        transaction: FileTransaction,
        outcome: Outcome,
    ) -> None:
        """Undo services that failed to start in their layers, and start them as they were."""
        transaction.undo(broken)
        for unit, service in broken.items():
            # Files that an earlier run wrote go too: it is the layer that the service does not start in.
            if service.layering is not None:
                remove_files(self._store, unit, service.layering.layer)
        manager.reload()
        for unit in broken:
            manager.reset_failed(unit)
        run_jobs(manager, "start", broken, self._timeout, self._progress)
        again = states(manager, broken)
        for unit in broken:
            how = f"{unit} failed to start in its layer (result {after[unit].result}); its files were removed"
            if again[unit].up or again[unit].ended_well:
                outcome.failed[unit] = f"{how} and it was started as before."
            else:
                outcome.failed[unit] = (
                    f"{how}, but it does not start without them either (result {again[unit].result}); "
                    f"see `systemctl status {unit}`."
                )
        outcome.written = [unit for unit in outcome.written if unit not in broken]
        layers = [service.layering.layer for service in broken.values() if service.layering is not None]
        stop_empty(manager, CgroupFS(), layers, self._timeout)
