# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rules as things happen: look at what an event is about, and start `reap` when something is to be done.

The monitor itself changes nothing and keeps nothing: killed and started again, it looks once at everything. The work is
that of cgroup-layering-reap.service, the timer's own unit, of which systemd runs one at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from cgroup_layering.config.load import FOLDERS, load
from cgroup_layering.config.model import Config
from cgroup_layering.errors import CgroupLayeringError, HostUnsuitable
from cgroup_layering.formers import former_layers
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.kernel.inotify import Inotify
from cgroup_layering.lifetime.agenda import RETRY, Agenda, Debounce
from cgroup_layering.lifetime.layers import LayerState, layer_states
from cgroup_layering.lifetime.newcomers import Settled, newcomers
from cgroup_layering.lifetime.notify import Service
from cgroup_layering.lifetime.steps import Step, steps
from cgroup_layering.model import OwnFiles
from cgroup_layering.naming import is_service_name, split_layer, template_of
from cgroup_layering.store import TEMPORARY, Store
from cgroup_layering.systemd.events import Event, Events, What
from cgroup_layering.systemd.manager import SERVICE, UNIT, BusError, Manager
from cgroup_layering.unitpaths import fragment

REAP = "cgroup-layering-reap.service"
GAP = 3.0
"""Seconds between two starts of it, below the rate at which systemd refuses a start (five in ten seconds)."""
AGAIN = 10.0
"""Seconds until the next try after something failed; twice as long each time, up to RETRY."""
LOST_RUN = 2400.0
"""Seconds after which a run of it is over whatever was heard: more than its TimeoutStartSec=."""
NAMED = 10
_MADE = ("generator", "transient")
"""Folders of unit files that systemd writes itself: what is in them is known by signals."""


class Monitor:
    """The state between two events; all of it can be had again by looking."""

    def __init__(
        self, store: Store, fs: CgroupFS, events: Events, folders: Inotify, service: Service,
        tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._store = store
        self._fs = fs
        self._events = events
        self._folders = folders
        self._service = service
        self._tell = tell
        self._clock = clock
        self._agenda = Agenda()
        self._debounce = Debounce()
        self._settled = Settled()
        self._config = Config()
        self._own: dict[str, OwnFiles] = {}
        self._formers: list[OwnFiles] = []
        self._dirs: tuple[Path, ...] = ()
        self._plain: set[str] = set()
        """Newcomers that no run of `reap` has looked at."""
        self._all = True
        """Whether the next look is at everything; else it is at the services in `_some`."""
        self._some: set[str] = set()
        self._ready = self._busy = self._reaping = False
        self._result = ""
        """How the last run of `reap` ended, until a look has taken that in."""
        self._began = -GAP
        self._failures = 0
        self._not_before = 0.0

    def run(self) -> None:
        """Until `events` are stopped. Raises what connecting the first time raises."""
        self._events.watch(self._folders.fileno())
        self._events.run(self.notice)
        self._service.stopping()

    def notice(self, event: Event) -> None:
        """Take one event. A look asks systemd; what is told meanwhile is only noted."""
        self._note(event, self._clock())
        if self._busy:
            return
        self._busy = True
        try:
            self._act()
        finally:
            self._busy = False
        self._events.wake(self._seconds(self._clock()))

    def _note(self, event: Event, now: float) -> None:
        what, unit = event.what, self._layered(event.unit)
        if what is What.JOB_REMOVED and event.unit == REAP:
            self._reaping, self._result = False, event.state
            self._ask(now)
        elif what in (What.UNIT_CHANGED, What.JOB_REMOVED) and unit is not None:
            if unit == event.unit:
                self._agenda.forget_tries(self._own[unit].layer)
            self._ask(now, unit)
        elif what is What.UNIT_NEW and self._is_newcomer(event.unit):
            self._settled.changed(event.unit)
            self._ask(now)
        elif what is What.READABLE:
            changes = [change for change in self._folders.read() if not change.name.startswith(TEMPORARY)]
            for change in changes:
                self._settled.changed(change.name)
            if changes:
                self._ask(now)
                self._failures, self._not_before = 0, 0.0
        elif what is What.RELOADING:
            self._debounce.reloading(now)
        elif what in (What.RELOADED, What.UNIT_FILES_CHANGED, What.CONNECTED):
            self._debounce.reloaded()
            self._ask(now)
            if what is What.CONNECTED:
                self._reaping, self._failures, self._not_before = False, 0, 0.0
        elif what is What.LOST:
            self._service.status("systemd can't be asked over D-Bus; waiting for it.")

    def _ask(self, now: float, unit: str = "") -> None:
        """Ask for a look, at one service or at everything."""
        if unit:
            self._some.add(unit)
        else:
            self._all = True
        self._debounce.note(now)

    def _layered(self, name: str) -> str | None:
        """The layered service that a unit is, or is the layer of."""
        named = split_layer(name)
        unit = named[0] if named is not None else name
        return unit if unit in self._own else None

    def _is_newcomer(self, unit: str) -> bool:
        if not is_service_name(unit) or unit in self._own or self._settled.knows(unit):
            return False
        # A run of reap loads all that is installed: that is no news.
        if self._reaping and template_of(unit) is None:
            return False
        return self._config.auto_for(unit) and fragment(unit, self._dirs) is not None

    def _act(self) -> None:
        manager, now = self._events.manager, self._clock()
        if manager is None or now < self._not_before:
            return
        try:
            if self._reaping and now >= self._began + LOST_RUN:
                self._reaping = False
                self._ask(now)
            again, moment = self._agenda.due(now)[1], self._debounce.moment
            if again or (moment is not None and moment <= now):
                failures = self._failures
                with self._service.work():
                    self._see(manager, now, again)
                if self._failures == failures:
                    self._failures = 0
                self._service.status(self._summary())
            if self._may_start(now := self._clock()):
                with self._service.work():
                    self._start(manager, now)
                self._service.status(self._summary())
        except CgroupLayeringError as error:
            self._tell(f"{error} {error.hint}".rstrip())
            self._service.status(str(error))
            self._put_off(now)
        if not self._ready and (not self._all or self._failures):
            self._ready = True
            self._service.ready()

    def _put_off(self, now: float) -> None:
        self._not_before = now + min(AGAIN * 2**self._failures, RETRY)
        self._failures += 1

    def _see(self, manager: Manager, now: float, again: set[str]) -> None:
        """Look at what was asked for, or at everything."""
        left = [files.layer for files in self._formers if files.unit in self._some]
        layers = again | {self._own[unit].layer for unit in self._some} | set(left)
        own = [files for files in (*self._own.values(), *self._formers) if files.layer in layers]
        everything, self._all, self._some = self._all or len(own) < len(layers), False, set()
        self._debounce.done()
        try:
            if everything:
                self._see_all(manager, now)
            else:
                found = layer_states(own, manager, self._fs, self._clock, others=())
                self._agenda.update(self._steps(found), layers, now)
        except CgroupLayeringError:
            self._ask(now)
            raise

    def _see_all(self, manager: Manager, now: float) -> None:
        # Watched first: what changes while it is read is told of then.
        self._dirs = tuple(path for path in manager.unit_path() if not path.name.startswith(_MADE))
        self._folders.watch((*self._dirs, *FOLDERS))
        self._config = load(self._store)
        self._own = self._store.own()
        self._formers = former_layers(self._store)
        every = (*self._own.values(), *self._formers)
        self._agenda.update(self._steps(layer_states(every, manager, self._fs, self._clock)), None, now)
        plain: frozenset[str] = frozenset()
        if self._config.layers_new:
            files, loaded = manager.unit_files("*.service"), manager.units("*.service")
            plain = newcomers(files, loaded, self._own, self._config)
        self._take_in_result(manager, plain, now)
        self._plain = self._settled.left(plain)

    def _steps(self, states: Iterable[LayerState]) -> list[Step]:
        """What the rules say; of the layer that reap itself may run in nothing, as it is never empty then."""
        return steps((state for state in states if state.unit != REAP), self._config)

    def _take_in_result(self, manager: Manager, plain: frozenset[str], now: float) -> None:
        """A run of reap ended: what it left plain stays so; one that was killed is repeated."""
        result, self._result = self._result, ""
        if result == "done":
            self._settled.end(plain)
        elif result:
            how = manager.properties([REAP], SERVICE, ("Result",))[REAP].get("Result")
            if how not in ("success", "exit-code"):
                self._agenda.forget_tries()
                self._ask(now)
            self._put_off(now)

    def _may_start(self, now: float) -> bool:
        """Whether something is to be done; while reap is at work not: another look follows its end."""
        if self._reaping or now < max(self._began + GAP, self._not_before):
            return False
        return bool(self._plain or self._agenda.due(now)[0])

    def _start(self, manager: Manager, now: float) -> None:
        layers = self._agenda.due(now)[0]
        self._reaping = True  # before asking: that it has ended may be told of meanwhile
        try:
            props = manager.properties([REAP], UNIT, ("LoadState", "ActiveState"))[REAP]
            if props.get("LoadState") != "loaded":
                raise HostUnsuitable(f"{REAP} is {props.get('LoadState')}, and the monitor has its work done by it.")
            if props.get("ActiveState") in ("activating", "deactivating"):
                return
            self._began = now
            self._settled.begin()
            self._agenda.tried(layers, now)
            job = manager.enqueue("start", [REAP])[REAP]
            if isinstance(job, BusError):
                raise job
        except CgroupLayeringError:
            self._reaping = False
            self._agenda.forget_tries()
            self._ask(now)
            raise
        names = sorted(layers) + sorted(self._plain)
        self._plain = set()
        self._tell(f"Starting {REAP} for {', '.join(names[:NAMED])}{' and others' if len(names) > NAMED else ''}.")

    def _seconds(self, now: float) -> float | None:
        """How long to sleep."""
        if self._events.manager is None:
            return None
        moments = [self._debounce.moment]
        if self._reaping:
            moments.append(self._began + LOST_RUN)
        elif (due := self._agenda.next) is not None:
            moments.append(max(due, self._began + GAP))
        if self._plain and not self._reaping:
            moments.append(self._began + GAP)
        first = min((moment for moment in moments if moment is not None), default=None)
        return None if first is None else max(first, self._not_before) - now

    def _summary(self) -> str:
        count = "1 layer" if len(self._own) == 1 else f"{len(self._own)} layers"
        if self._reaping:
            return f"{count}; {REAP} is at work."
        due = self._agenda.next
        if due is None:
            return f"{count}; nothing is due."
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() + due - self._clock()))
        return f"{count}; the next one is due at {at}."
