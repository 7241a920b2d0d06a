# SPDX-License-Identifier: LGPL-2.1-or-later
"""Layer what appears on the system where the configuration says `auto`: files and one reload, never a restart."""

from __future__ import annotations

from dataclasses import replace

from cgroup_layering.config.model import Config
from cgroup_layering.host import Reader
from cgroup_layering.layering import Layerer
from cgroup_layering.model import Change, Host, Plan, ServicePlan
from cgroup_layering.planner import Request, plan
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import Manager
from cgroup_layering.transaction import Outcome
from cgroup_layering.unitpaths import ETC


def auto_plan(host: Host, config: Config) -> Plan:
    """The plain services that the configuration wants layered and that can be; and what a killed run left half done."""
    whole = plan(host, Request(config=config))
    return replace(whole, services=tuple(one for one in whole.layered if _is_wanted(one, host, config)))


def _is_wanted(service: ServicePlan, host: Host, config: Config) -> bool:
    own = host.services[service.unit].own
    if not config.auto_for(service.unit) or service.layering is None:
        return False
    if own is None or not own.complete:
        return service.change is not Change.NONE
    # The files are there, and systemd has not read them: a run ended between its writes and its reload.
    return service.change is Change.NONE and host.services[service.unit].slice != service.layering.layer


def read_plan(store: Store, manager: Manager, config: Config) -> tuple[Plan, Host]:
    """Read the host and say what `auto` would layer."""
    host = Reader(store, manager).read()
    return auto_plan(host, config), host


def layer_new(store: Store, manager: Manager, config: Config) -> Outcome:
    """Layer what appeared. Raises StoreError or BusError with everything undone."""
    wanted, host = read_plan(store, manager, config)
    if not wanted.services:
        return Outcome()
    return Layerer(store, ETC, manager, 0.0, lambda *_: None).run(wanted, host, now=False)
