# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rehoming as part of a verb: around a restart, or by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from cgroup_layering.cli.session import Session
from cgroup_layering.model import Host, ServicePlan
from cgroup_layering.naming import slice_path
from cgroup_layering.systemd.manager import SERVICE, Manager

if TYPE_CHECKING:
    from cgroup_layering.rehoming.rehome import Rehomed, Stop

LONGEST_STOP = 300.0
"""Seconds to wait for a service that may take for ever to stop."""


def check_rehome(rehome: bool, now: bool) -> None:
    """Raises UsageError where --rehome has nothing to be around of."""
    if rehome and not now:
        raise click.UsageError("--rehome is done around the restart, so it needs --now.")


def stops(manager: Manager, host: Host, units: Iterable[str]) -> dict[str, Stop]:
    """The running services among `units` whose restart leaves no process behind, and how long their stop may take."""
    from cgroup_layering.rehoming.rehome import Stop

    chosen = [
        unit
        for unit in units
        if host.services[unit].running and host.services[unit].kill_mode in ("control-group", "mixed")
    ]
    props = manager.properties(chosen, SERVICE, ("TimeoutStopUSec",))
    found = {}
    for unit in chosen:
        value = props[unit].get("TimeoutStopUSec")
        seconds = value / 1e6 if isinstance(value, int) else LONGEST_STOP
        found[unit] = Stop(host.services[unit].control_group, min(seconds + 5, LONGEST_STOP))
    return found


@dataclass
class AroundRestart:
    """Two callbacks for whoever restarts services; both do nothing unless it is wanted."""

    before_restart: Callable[[list[ServicePlan]], None] = lambda _movers: None
    finish: Callable[[], list[Rehomed]] = field(default=list)


@contextmanager
def around_restart(session: Session, host: Host, wanted: bool, timeout: float) -> Iterator[AroundRestart]:
    """Rehome services around the restart that brings them into their layers, if `wanted`."""
    if not wanted or session.manager is None:
        yield AroundRestart()
        return
    from cgroup_layering.charges.usage import Target
    from cgroup_layering.cli.looks import folders_of, known_maps
    from cgroup_layering.output.tables import Output
    from cgroup_layering.rehoming.rehome import Rehomer

    manager = session.manager
    maps = known_maps(Output(quiet=True))
    with Rehomer(manager, session.fs, timeout, shared=False, tmpfs=False, maps=maps) as rehomer:

        def before_restart(movers: list[ServicePlan]) -> None:
            layers = {service.unit: service.layering.layer for service in movers if service.layering is not None}
            stopping = stops(manager, host, layers)
            folders = folders_of(session, host, stopping)
            targets: Mapping[str, Target] = {
                layers[unit]: Target(unit, slice_path(layers[unit]), folders[unit], stop.cgroup)
                for unit, stop in stopping.items()
            }
            rehomer.prepare(targets)
            rehomer.begin(stopping)

        yield AroundRestart(before_restart, rehomer.finish)
