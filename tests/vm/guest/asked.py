# SPDX-License-Identifier: LGPL-2.1-or-later
"""asked.py: be `cgroup-layering plan --json=pretty`; whom systemd is asked about goes to standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from cgroup_layering import __main__ as program
from cgroup_layering.systemd.bus import SystemdBus

ask = SystemdBus.properties
asked: set[str] = set()


def properties(
    bus: SystemdBus, units: Iterable[str], interface: str, names: Iterable[str]
) -> dict[str, dict[str, object]]:
    """Ask, and keep whom about."""
    units = list(units)
    asked.update(unit for unit in units if unit.endswith(".service"))
    return ask(bus, units, interface, names)


SystemdBus.properties = properties  # type: ignore[method-assign,assignment]
sys.argv = ["cgroup-layering", "plan", "--json=pretty"]
try:
    program.main()
finally:
    print(*sorted(asked), sep="\n", file=sys.stderr)
