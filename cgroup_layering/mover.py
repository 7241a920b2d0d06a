# SPDX-License-Identifier: LGPL-2.1-or-later
"""Restart services into their layers, all at once or batch by batch; what does not come up is taken out again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from cgroup_layering.effective.quantities import sentence
from cgroup_layering.headroom import no_room
from cgroup_layering.health import invocations, unhealthy
from cgroup_layering.holding.leaving import stop_holders
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.model import Host, ServicePlan
from cgroup_layering.moving import Progress, State, run_jobs, states
from cgroup_layering.naming import slice_path
from cgroup_layering.removal import remove_files
from cgroup_layering.restarting import Gate, batches, closure, cut_off, leaders
from cgroup_layering.stopping import stop_empty
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import Manager
from cgroup_layering.transaction import FileTransaction, Outcome


class Mover:
    """The restarts of one run."""

    def __init__(
        self,
        manager: Manager,
        store: Store,
        timeout: float,
        progress: Progress,
        before_restart: Callable[[list[ServicePlan]], None],
        gate: Gate,
        lost: Callable[[ServicePlan, str], list[str]],
    ) -> None:
        """`lost` says what a service does not have in a cgroup that it had before the first write."""
        self._manager = manager
        self._store = store
        self._timeout = timeout
        self._progress = progress
        self._before_restart = before_restart
        self._gate = gate
        self._lost = lost

    def move(self, movers: list[ServicePlan], host: Host, transaction: FileTransaction, outcome: Outcome) -> None:
        """Restart `movers`, each once, and sort them into `outcome`; raises BusError."""
        wanted = {service.unit: service for service in self._with_room(movers, host, outcome)}
        heads = leaders(list(wanted), host.propagates)
        done: set[str] = set()
        for number, batch in enumerate(batches(heads, self._gate.batch)):
            if number and self._gate.pause_seconds:
                time.sleep(self._gate.pause_seconds)
            led = frozenset().union(*(closure(unit, host.propagates) for unit in batch))
            family = [unit for unit in wanted if unit not in done and (unit in batch or unit in led)]
            self._batch([wanted[unit] for unit in family], batch, transaction, outcome)
            done.update(family)
            if cut_off(len(outcome.failed), self._gate):
                outcome.stopped = f"{len(outcome.failed)} services failed, so the run ended there."
                for unit in wanted.keys() - done:
                    outcome.pending[unit] = f"{unit} was not restarted any more."
                return

    @staticmethod
    def _with_room(movers: list[ServicePlan], host: Host, outcome: Outcome) -> list[ServicePlan]:
        """Those that fit into their layers; the others stay as they run, and are told about."""
        fs = CgroupFS()
        fitting = []
        for service in movers:
            layer = service.layering.layer if service.layering is not None else ""
            why = no_room(fs, service.unit, layer, host.services[service.unit].control_group)
            if why:
                outcome.pending[service.unit] = why
            else:
                fitting.append(service)
        return fitting

    def _batch(
        self, movers: list[ServicePlan], heads: list[str], transaction: FileTransaction, outcome: Outcome
    ) -> None:
        units = [service.unit for service in movers]
        self._before_restart(movers)
        before = invocations(self._manager, units)
        refused = run_jobs(self._manager, "try-restart", heads, self._timeout, self._progress)
        led = [unit for unit in units if unit not in heads]
        if led:
            after = invocations(self._manager, led)
            # Whom a restart should have restarted and did not (it had failed, or the dependency is a weaker one).
            left = [unit for unit in led if after[unit] == before[unit]]
            refused |= run_jobs(self._manager, "try-restart", left, self._timeout, self._progress) if left else {}
        found = states(self._manager, units)
        broken: dict[str, str] = {}
        moved = []
        for service in movers:
            unit, state = service.unit, found[service.unit]
            inside = service.layering is not None and state.control_group.startswith(
                slice_path(service.layering.layer) + "/"
            )
            if state.up and inside and unit not in refused:
                moved.append(unit)
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
                broken[unit] = f"failed to start in its layer (result {state.result})"
        sick = dict(unhealthy(self._manager, moved, self._gate))
        for service in movers:
            if service.unit in moved and service.unit not in sick:
                lost = self._lost(service, found[service.unit].control_group)
                if lost:
                    sick[service.unit] = f"was not as before in its layer ({sentence(lost)})"
        broken |= sick
        outcome.moved += [unit for unit in moved if unit not in sick]
        if broken:
            services = {service.unit: service for service in movers if service.unit in broken}
            self._take_out(services, broken, transaction, outcome)

    def _take_out(
        self,
        services: Mapping[str, ServicePlan],
        why: Mapping[str, str],
        transaction: FileTransaction,
        outcome: Outcome,
    ) -> None:
        """Undo services that are not well in their layers, and start them as they were."""
        manager = self._manager
        transaction.undo(services)
        for unit, service in services.items():
            # Files that an earlier run wrote go too: it is the layer that the service does not start in.
            if service.layering is not None:
                remove_files(self._store, unit, service.layering.layer)
        if any(service.layering is not None and service.layering.hold for service in services.values()):
            stop_holders(manager, self._store, self._timeout)
        manager.reload()
        kept = self._store.own()
        for unit in services:
            manager.reset_failed(unit)
        # A sick one may still run, in the layer.
        run_jobs(manager, "restart", services, self._timeout, self._progress)
        again = states(manager, services)
        for unit in services:
            how = f"{unit} {why[unit]}; its {'former files are back' if unit in kept else 'files were removed'}"
            outcome.failed[unit] = _verdict(unit, how, again[unit])
        outcome.written = [unit for unit in outcome.written if unit not in services]
        layers = [service.layering.layer for service in services.values() if service.layering is not None]
        stop_empty(manager, CgroupFS(), layers, self._timeout)


def _verdict(unit: str, how: str, now: State) -> str:
    if now.up or now.ended_well:
        return f"{how} and it was started as before."
    return f"{how}, but it does not start without them either (result {now.result}); see `systemctl status {unit}`."
