# SPDX-License-Identifier: LGPL-2.1-or-later
"""Layering every service must not make the shutdown longer: five plain and five layered ones, by the journal."""

from __future__ import annotations

import json
from statistics import median

import pytest

from tests.vm.machine import Machine

RUNS = 5
LONGER = 1.1
REQUEST = "The system will reboot now"


def shutdown_seconds(machine: Machine) -> float:
    """From the request to the last line that journald wrote in the boot before this one."""
    lines = machine.ok("journalctl -b -1 -n 400 -o json --output-fields=MESSAGE --no-pager").splitlines()
    entries = [json.loads(line) for line in lines]
    times = [int(entry["__MONOTONIC_TIMESTAMP"]) for entry in entries]
    start = next(time for time, entry in zip(times, entries, strict=True) if REQUEST in str(entry["MESSAGE"]))
    assert "Journal stopped" in str(entries[-1]["MESSAGE"]), entries[-1]
    return (times[-1] - start) / 1e6


def shutdowns(machine: Machine) -> list[float]:
    """Seconds that each of some reboots took to shut down."""
    found = []
    for _ in range(RUNS):
        assert machine.reboot() == "running"
        found.append(shutdown_seconds(machine))
    return found


@pytest.mark.long
@pytest.mark.timeout(5400)
def test_shutdown_takes_as_long_as_before(fresh: Machine) -> None:
    """The median of five against the median of five, in turn on the same VM."""
    plain = shutdowns(fresh)
    fresh.tool_ok("migrate", "--yes")
    assert fresh.reboot() == "running"
    layered = shutdowns(fresh)
    print(f"{fresh.suite}: plain {plain}, layered {layered}")
    assert median(layered) <= LONGER * median(plain), f"plain {plain}, layered {layered}"
