# SPDX-License-Identifier: LGPL-2.1-or-later
"""Restart services so that they get into (or out of) their layers, and see where they ended up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cgroup_layering.systemd.manager import SERVICE, UNIT, BusError, Manager

POLL = 0.25
"""Seconds between two looks at systemd's job queue."""

Progress = Callable[[int, int, str], None]
"""Called with the number of services done, of all, and what goes on."""


@dataclass(frozen=True, slots=True)
class State:
    """A service after its restart: its state, where it runs, and systemd's word for how it ended."""

    active_state: str
    sub_state: str
    control_group: str
    result: str

    @property
    def up(self) -> bool:
        """Whether it runs, or is on its way and not between two crashes."""
        return self.active_state in ("active", "reloading") or (
            self.active_state == "activating" and not self.sub_state.startswith("auto-restart")
        )

    @property
    def ended_well(self) -> bool:
        """Whether it is not running because it had nothing more to do."""
        return self.active_state == "inactive" and self.result == "success"


def run_jobs(
    manager: Manager,
    verb: str,
    units: Iterable[str],
    timeout: float,
    progress: Progress,
    mode: str = "replace",
) -> dict[str, str]:
    """Queue a job per unit in one go and wait for them, `timeout` seconds in all; units that failed, and why.

    Whether the job did what it should is read from the unit's state afterwards, not from the job's result: a
    bus connection that is lost meanwhile loses no more than one look.
    """
    units = tuple(units)
    queued = manager.enqueue(verb, units, mode)
    failed = {unit: str(job) for unit, job in queued.items() if isinstance(job, BusError)}
    waiting = {job: unit for unit, job in queued.items() if isinstance(job, int)}
    deadline = time.monotonic() + timeout
    while waiting:
        alive = manager.jobs()
        waiting = {job: unit for job, unit in waiting.items() if job in alive}
        progress(len(units) - len(waiting), len(units), next(iter(waiting.values()), ""))
        if waiting and time.monotonic() > deadline:
            for unit in waiting.values():
                failed[unit] = f"The {verb} of {unit} was not done within {timeout:g} s; systemd goes on with it."
            break
        if waiting:
            time.sleep(POLL)
    return failed


def states(manager: Manager, units: Iterable[str]) -> Mapping[str, State]:
    """Where the services are now."""
    units = tuple(units)
    unit_props = manager.properties(units, UNIT, ("ActiveState", "SubState"))
    service_props = manager.properties(units, SERVICE, ("ControlGroup", "Result"))
    return {
        unit: State(
            str(unit_props[unit].get("ActiveState", "")),
            str(unit_props[unit].get("SubState", "")),
            str(service_props[unit].get("ControlGroup", "")),
            str(service_props[unit].get("Result", "")),
        )
        for unit in units
    }
