# SPDX-License-Identifier: LGPL-2.1-or-later
"""Carry out a plan: files, one reload, and with `now` one restart per service that may be restarted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cgroup_layering.domains.registry import keep_weights
from cgroup_layering.effective.readback import KernelBefore
from cgroup_layering.holding.leaving import held_later
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.kernel.latch import LATCH, latch, unlatch
from cgroup_layering.model import Change, Host, Plan, ServicePlan, Timing
from cgroup_layering.mover import Mover
from cgroup_layering.moving import Progress
from cgroup_layering.naming import slice_path
from cgroup_layering.restarting import NO_GATE, Gate
from cgroup_layering.settling import settle
from cgroup_layering.stopping import stop_empty
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import Manager
from cgroup_layering.transaction import Outcome, write_plan


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
        gate: Gate = NO_GATE,
    ) -> None:
        self._store = store
        self._folder = folder
        self._manager = manager
        self._timeout = timeout
        self._progress = progress
        self._before_restart = before_restart
        self._gate = gate

    def run(self, plan: Plan, host: Host, now: bool, reload: bool = True) -> Outcome:
        """Apply `plan`; raises StoreError or BusError with everything undone.

        A service that does not come up in its layer, or does not have there what it had, is taken out of it again and
        listed in `failed`.
        """
        manager = self._manager
        # A run that was cut off between its writes and its reload leaves systemd with the old settings.
        stale = any(
            service.layering is not None and host.services[service.unit].slice != service.layering.layer
            for service in plan.layered
        )
        wanted = reload and (bool(plan.changes) or stale)
        before = KernelBefore(CgroupFS(), plan.layered, host.services) if manager is not None and now else None
        latched = self._unlatch(plan) if manager is not None else []
        try:
            transaction, outcome = write_plan(plan.layered, self._store, self._folder, manager, wanted, host.services)
        except BaseException:
            for folder in latched:
                latch(folder)
            raise
        sound = [service for service in plan.layered if service.unit not in outcome.failed]
        if manager is None:
            keep_weights(self._store, None, None)
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
            elif _held_later(service, host):
                outcome.pending[service.unit] = held_later(service.unit)
            elif service.reasons:
                why = service.reasons[0].sentence
                outcome.pending[service.unit] = f"{why} It gets into its layer at its {service.timing}."
        if movers and before is not None:
            before.read_back = outcome.read_back
            # A domain's holder has to be there before a member starts.
            outcome.remarks.extend(keep_weights(self._store, manager, CgroupFS(), reload))
            mover = Mover(
                manager, self._store, self._timeout, self._progress, self._before_restart, self._gate, before.lost
            )
            mover.move(movers, host, transaction, outcome)
        self._stop_undone(manager, plan, outcome)
        outcome.remarks.extend(keep_weights(self._store, manager, CgroupFS(), reload))
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

    def _stop_undone(self, manager: Manager, plan: Plan, outcome: Outcome) -> None:
        """Stop the layers of services that never got there: the reload has already made their cgroups."""
        undone = [s for s in plan.layered if s.unit in outcome.failed and s.change is not Change.NONE]
        layers = [s.layering.layer for s in undone if s.layering is not None]
        gone = [layer for layer in layers if self._store.read(self._folder / layer) is None]
        if gone:
            stop_empty(manager, CgroupFS(), gone, self._timeout)


def _held_later(service: ServicePlan, host: Host) -> bool:
    """Whether a service runs in its layer and gets other resources than it has."""
    if service.timing is not Timing.IN_PLACE or service.layering is None or service.layering.hold is None:
        return False
    own = host.services[service.unit].own
    return own is None or own.hold != service.layering.hold
