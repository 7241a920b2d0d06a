# SPDX-License-Identifier: LGPL-2.1-or-later
"""Apply the rules once: layers whose time is over go, files of services that are gone go with them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cgroup_layering.config import Config
from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.kernel.release import kernel_version
from cgroup_layering.lifetime.drain import drain
from cgroup_layering.lifetime.layers import LayerState
from cgroup_layering.lifetime.rules import Decision, Kind, Rule, Verdict, decide, parse_rule
from cgroup_layering.model import OwnFiles
from cgroup_layering.moving import run_jobs
from cgroup_layering.removal import remove_files, remove_stray_drop_ins, set_boot_link
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import Manager

if TYPE_CHECKING:  # the monitor has no use for the half of the program that names what is left in a layer
    from cgroup_layering.lifetime.departure import Departure, Remover

INHERITED = ""
"""The lifetime that a slice file says where the configuration decides."""


@dataclass(frozen=True)
class Step:
    """What is to be done with one layer: its rule, what that says, and whether its files go too."""

    state: LayerState
    rule: Rule
    decision: Decision
    files_go: bool
    shrink: bool = False
    """Whether its dying cgroups are too many."""
    boot: bool | None = None
    """Whether a link should start it at boot; None where that is so already."""


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
    problems: list[str] = field(default_factory=list)


def rule_of(state: LayerState, config: Config) -> Rule:
    """The rule of a layer: its own, or the configuration's; that of an orphan goes by what is installed."""
    if state.own is None:
        return Rule(Kind.INSTALLED)
    return config.rule_for(state.unit) if state.own.lifetime == INHERITED else parse_rule(state.own.lifetime)


def steps(states: Iterable[LayerState], config: Config, release: str = "") -> list[Step]:
    """What the rules say about each layer. Pure. Raises BadRule for a file that says no rule."""
    count_dying = kernel_version(release or os.uname().release) < (7, 1)
    found = []
    for state in states:
        rule = rule_of(state, config)
        decision = decide(rule, state.standing)
        torso = state.own is not None and not state.own.complete
        if (state.own is None or torso) and not state.standing.running:
            why = "its service's drop-in is gone" if torso else "no file of ours describes it any more"
            decision = Decision(Verdict.REMOVE, why) if state.standing.exists else Decision(Verdict.KEEP, why)
        goes = decision.verdict is Verdict.REMOVE or not state.standing.exists
        files_go = state.own is not None and ((bool(state.gone) and not state.masked) or torso) and goes
        shrink = count_dying and state.dying > config.dying and decision.verdict is Verdict.KEEP
        found.append(Step(state, rule, decision, files_go, shrink, None if files_go else _boot(state, rule)))
    return found


def _boot(state: LayerState, rule: Rule) -> bool | None:
    """What is to be done about a layer's link into the boot: the configuration may have changed, or it was removed."""
    if state.own is None or not state.own.complete:
        return None
    wanted = rule.kind is Kind.FOREVER and not state.gone
    return None if wanted == state.own.linked == bool(state.own.wanted_by) else wanted


class Reaper:
    """One run."""

    def __init__(
        self, store: Store, manager: Manager, fs: CgroupFS, config: Config, remover: Remover,
    ) -> None:  # fmt: skip
        self._store = store
        self._manager = manager
        self._fs = fs
        self._config = config
        self._remover = remover

    def run(self, wanted: Iterable[Step]) -> Reaped:
        """Carry out the steps; what fails for one layer does not stop the others. Raises BusError from the reload."""
        result = Reaped()
        reload = False
        for step in wanted:
            state = step.state
            try:
                if step.boot is not None and state.own and set_boot_link(self._store, state.own, step.boot):
                    result.links[state.layer] = step.boot
                    reload = True
                if step.decision.verdict is Verdict.REMOVE:
                    departure = self._remover.remove(state.layer, state.unit, step.decision.why)
                    result.departures.append(departure)
                    if not departure.gone:
                        continue
                elif step.decision.verdict is Verdict.START:
                    result.problems.extend(self._start(state, result))
                if step.files_go and self._abandoned(state.own) and remove_files(self._store, state.unit, state.layer):
                    result.files_removed.append(state.unit)
                    reload = True
                if step.shrink:
                    self._shrink(state, result)
            except CgroupLayeringError as error:
                result.problems.append(f"{state.layer}: {error}")
        strays = remove_stray_drop_ins(self._store)
        result.files_removed.extend(strays)
        if reload or strays:
            self._manager.reload()
        return result

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
        with self._remover.shown(state.layer) as progress:
            drain(
                self._fs, state.cgroup, seconds=self._config.drain_seconds, enough=lambda: dying() <= aim,
                progress=progress,
            )  # fmt: skip
        result.shrunk[state.layer] = (before, dying())
