# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every call of the product to systemd, by name, and a bound for how long something may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cgroup_layering.systemd.bus import SystemdBus
from cgroup_layering.systemd.manager import UNIT

UNITS = ["a.service", "busy.service", r"a\x2db@c-d.service", "0.service"]


CALLS: dict[str, Callable[[SystemdBus], object]] = {
    "version": lambda bus: bus.version(),
    "unit_path": lambda bus: bus.unit_path(),
    "default_memory_accounting": lambda bus: bus.default_memory_accounting(),
    "reading": lambda bus: bus.reading(),
    "unit_files": lambda bus: bus.unit_files("*"),
    "units": lambda bus: bus.units("*"),
    "load": lambda bus: bus.load(["a.service"]),
    "properties": lambda bus: bus.properties(UNITS, UNIT, ("Names",)),
    "reload": lambda bus: bus.reload(),
    "jobs": lambda bus: bus.jobs(),
    "reset_failed": lambda bus: bus.reset_failed("a.service"),
}


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds
