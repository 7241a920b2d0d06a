# SPDX-License-Identifier: LGPL-2.1-or-later
"""Facts, hosts and layerings for tests of the pure middle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cgroup_layering.model import Change, Host, Layering, ServiceFacts, ServicePlan, Timing, Tracking, Verdict
from cgroup_layering.naming import layer_name
from cgroup_layering.offline import parent_slice, service_facts
from cgroup_layering.unitfile import parse

HERE = Path("/usr/lib/systemd/system")
MIGRATION = "20260801T120000Z-0123abcd"


def facts(text: str = "", unit: str = "hello.service", **changes: Any) -> ServiceFacts:
    """A service whose file has `text` behind an ExecStart= line of [Service], and what else is known of it."""
    path = HERE / unit
    found = service_facts(unit, (unit,), [(path, parse(f"[Service]\nExecStart=/bin/true\n{text}\n", path))])
    return replace(found, fragment=path, parent=parent_slice(unit, found.files), **changes)


def host(*services: ServiceFacts, version: int = 252, **changes: Any) -> Host:
    """A host with these services."""
    return Host(version=version, services={service.unit: service for service in services}, **changes)


def layering(unit: str = "hello.service", parent: str = "system.slice", **changes: Any) -> Layering:
    """A layering in `instance` tracking that lifts nothing."""
    plain = Layering(
        unit=unit,
        parent=parent,
        layer=layer_name(unit, parent),
        tracking=Tracking.INSTANCE,
        lifetime="installed",
        migration=MIGRATION,
        version="0.1",
        folder_created=True,
    )
    return replace(plain, **changes)


def service_plan(planned: Layering, change: Change = Change.ADD) -> ServicePlan:
    """The plan that leads to a layering."""
    return ServicePlan(planned.unit, Verdict.LAYERED, change=change, timing=Timing.NEXT_START, layering=planned)
