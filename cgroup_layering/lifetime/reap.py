# SPDX-License-Identifier: LGPL-2.1-or-later
"""Apply the rules once: layers whose time is over go, files of services that are gone go with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from cgroup_layering.config.model import Config
from cgroup_layering.domains.registry import keep_weights
from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.formers import layering_of, remove_former
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.lifetime.departure import Departure, Remover
from cgroup_layering.lifetime.drain import drain
from cgroup_layering.lifetime.layers import LayerState, layer_states
from cgroup_layering.lifetime.rules import Verdict
from cgroup_layering.lifetime.steps import Step, steps
from cgroup_layering.model import OwnFiles
from cgroup_layering.moving import run_jobs
from cgroup_layering.removal import remove_files, remove_stray_drop_ins, set_boot_link
from cgroup_layering.runfolder import Locked
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import Manager


@dataclass
class Reaped:
    """What a run did, layer by layer."""

    departures: list[Departure] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    links: dict[str, bool] = field(default_factory=dict)
    """Layers that from now on come with the boot, or don't any more."""
    files_removed: list[str] = field(default_factory=list)
    layered: list[str] = field(default_factory=list)
    """Services that were layered because they appeared (`auto`)."""
    shrunk: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Dying cgroups before and after, by layer."""
    remarks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Reaper:
    """One run. What takes its time is done with the lock `released`; what others did meanwhile is looked at then."""

    def __init__(
        self, store: Store, manager: Manager, fs: CgroupFS, config: Config, remover: Remover,
        released: Callable[[], AbstractContextManager[None]], told: Callable[[Departure], None],
    ) -> None:  # fmt: skip
        self._store = store
        self._manager = manager
        self._fs = fs
        self._config = config
        self._remover = remover
        self._released = released
        self._told = told
        self._stale = False
        """Whether others may have changed something since the steps were made."""

    def run(self, wanted: Iterable[Step]) -> Reaped:
        """Carry out the steps; what fails for one layer does not stop the others. Raises BusError from the reload."""
        result = Reaped()
        reload = lost = False
        for step in wanted:
            try:
                reload |= self._take(step, result)
            except Locked as error:  # it is no more ours to change anything
                result.problems.append(str(error))
                lost = True
                break
            except CgroupLayeringError as error:
                result.problems.append(f"{step.state.layer}: {error}")
        else:
            strays = remove_stray_drop_ins(self._store)
            result.files_removed.extend(strays)
            reload |= bool(strays)
        if reload:
            self._manager.reload()
        if not lost:
            result.remarks.extend(keep_weights(self._store, self._manager, self._fs))
        return result

    def _take(self, step: Step, result: Reaped) -> bool:
        """Carry out one step; whether systemd has to read unit files again."""
        reload = False
        if self._stale and step.idle:
            return False
        now = self._again(step) if self._stale else step
        if now is None:
            return False
        state = now.state
        if now.boot is not None and state.own and set_boot_link(self._store, state.own, now.boot):
            result.links[state.layer] = now.boot
            reload = True
        if now.decision.verdict is Verdict.REMOVE:
            now = self._remove(now, result)
            if now is None:
                return reload
        elif now.decision.verdict is Verdict.START:
            result.problems.extend(self._start(state, result))
        if now.files_go and self._remove_files(now.state):
            result.files_removed.append(state.unit)
            reload = True
        if now.shrink:
            self._shrink(state, result)
        return reload

    def _remove(self, step: Step, result: Reaped) -> Step | None:
        """Empty a layer and stop it; the step as it is then, or None if the layer stays."""
        state = step.state
        with self._away():
            departure = self._remover.empty(state.layer, state.unit, step.decision.why)
        result.departures.append(departure)
        try:
            return self._part(step, departure)
        finally:
            # At once: the run can take long, and be killed.
            if departure.gone or departure.kept:
                self._told(departure)

    def _part(self, step: Step, departure: Departure) -> Step | None:
        """Stop a layer that was emptied, if it still may go; the step as it is then, or None if the layer stays."""
        if departure.kept or self._remover.stays(departure):
            return None
        now = self._again(step)
        if now is None or now.decision.verdict is not Verdict.REMOVE:
            why = now.decision.why if now else "another file describes it"
            departure.kept = f"{departure.layer} was drained, and is left alone now: {why}."
            return None
        self._remover.stop(departure)
        return now if departure.gone else None

    @contextmanager
    def _away(self) -> Iterator[None]:
        self._stale = True
        with self._released():
            yield

    def _again(self, step: Step) -> Step | None:
        """A step as its layer is by now; None if the layer is somebody else's slice."""
        own = layering_of(self._store, step.state.layer)
        known = [own] if own is not None else []
        return next(
            iter(steps(layer_states(known, self._manager, self._fs, others=[step.state.layer]), self._config)), None
        )

    def _remove_files(self, state: LayerState) -> bool:
        if state.own is not None and state.own.successor:
            return remove_former(self._store, state.layer)
        return self._abandoned(state.own) and remove_files(self._store, state.unit, state.layer)

    def _abandoned(self, own: OwnFiles | None) -> bool:
        """Whether files may go: not those that another run is writing at this moment, nor beside a foreign drop-in."""
        if own is None or own.complete:
            return True
        return self._store.age(own.slice_file) >= self._store.abandoned and self._store.read(own.drop_in) is None

    def _start(self, state: LayerState, result: Reaped) -> list[str]:
        failed = run_jobs(self._manager, "start", [state.layer], 60.0, lambda *_: None)
        if not failed:
            result.started.append(state.layer)
        return list(failed.values())

    def _shrink(self, state: LayerState, result: Reaped) -> None:
        def dying() -> int:
            return self._fs.cgroup_stat(state.cgroup).get("nr_dying_descendants", 0)

        before = dying()
        aim = self._config.dying // 2
        with self._away(), self._remover.shown(state.layer) as progress:
            drain(
                self._fs, state.cgroup, seconds=self._config.drain_seconds, enough=lambda: dying() <= aim,
                progress=progress,
            )  # fmt: skip
        result.shrunk[state.layer] = (before, dying())
