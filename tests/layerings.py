# SPDX-License-Identifier: LGPL-2.1-or-later
"""Facts, hosts and layerings for tests of the pure middle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cgroup_layering.model import Change, Host, Layering, OwnFiles, ServiceFacts, ServicePlan, Timing, Tracking, Verdict
from cgroup_layering.naming import layer_name
from cgroup_layering.offline import parent_slice, service_facts
from cgroup_layering.own import BOOT_TARGET, read_back
from cgroup_layering.render import slice_text
from cgroup_layering.unitfile import parse
from cgroup_layering.unitpaths import ETC

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


def own_files(unit: str = "hello.service", lifetime: str = "") -> OwnFiles:
    """The files of a layer as they are read back from /etc."""
    planned = layering(unit, lifetime=lifetime)
    found = read_back(ETC / planned.layer, slice_text(planned), "")
    assert found is not None
    # A layer that is forever has its link into the boot.
    return replace(found, wanted_by=BOOT_TARGET, linked=True) if lifetime == "forever" else found


def service_plan(planned: Layering, change: Change = Change.ADD) -> ServicePlan:
    """The plan that leads to a layering."""
    return ServicePlan(planned.unit, Verdict.LAYERED, change=change, timing=Timing.NEXT_START, layering=planned)
