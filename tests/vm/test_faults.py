# SPDX-License-Identifier: LGPL-2.1-or-later
"""A migration that is cut off at any step: the host stays valid, and a rollback or a second migration ends well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.vm.faults.kinds import OUTSIDE
from tests.vm.faults.runs import Series, push_disk
from tests.vm.guest.strikes import STRIKES
from tests.vm.machine import GUEST, Machine

pytestmark = pytest.mark.on("bookworm")

UNITS = ("fault-a.service", "fault-b.service")
SERVICE = "[Service]\nType=exec\nExecStart=/usr/bin/sleep infinity\nMemoryMax=64M\n"
WORDS = "migrate fault-* --yes --now --quiet"


@pytest.fixture(scope="module")
def struck(fresh: Machine) -> Iterator[Machine]:
    """Two plain services that run, without a limit on how often they may start."""
    for unit in UNITS:
        fresh.write(f"/etc/systemd/system/{unit}", f"[Unit]\nStartLimitIntervalSec=0\n{SERVICE}")
    fresh.ok(f"systemctl daemon-reload && systemctl start {' '.join(UNITS)}")
    push_disk(fresh.suite)
    yield fresh


def strike(machine: Machine, fault: str, *options: str) -> list[dict[str, Any]]:
    """Strike a migration again and again; all results."""
    script = f"python3 {GUEST}/fault.py {' '.join(options)} {fault} {WORDS} 2>{GUEST}/fault.err"
    out = machine.ok(f"{script} || {{ tail -n 20 {GUEST}/fault.err; exit 1; }}")
    return [json.loads(line) for line in out.splitlines()]


def holds(results: list[dict[str, Any]], signal: int) -> None:
    """Every fault struck but those of the last round, and nothing was lost or left."""
    assert [one for one in results if one["problems"]] == []
    assert all(one["exit"] == -signal for one in results if one["name"] and signal == 9)
    assert not results[-1]["name"] and results[-1]["exit"] == 0, "the last round went through unharmed"


def test_killed_at_some_steps(struck: Machine) -> None:
    results = strike(struck, "SIGKILL", "--first=5", "--step=15")
    assert len(results) >= 4
    holds(results, 9)


@pytest.mark.long
def test_killed_at_every_step(struck: Machine) -> None:
    results = strike(struck, "SIGKILL")
    names = {one["name"] for one in results}
    assert {"open", "rename", "fsync", "mkdir", "reload", "enqueue", "properties"} <= names
    holds(results, 9)


@pytest.mark.long
def test_ended_at_every_step(struck: Machine) -> None:
    """SIGTERM: the program takes back what it did itself, or leaves it to a rollback."""
    holds(strike(struck, "SIGTERM"), 15)


@pytest.mark.long
@pytest.mark.parametrize("fault", STRIKES)
def test_struck_from_outside(struck: Machine, fault: str) -> None:
    results = strike(struck, fault, "--first=9", "--step=12")
    assert results and [one for one in results if one["problems"]] == []


@pytest.mark.long
@pytest.mark.parametrize("fault", OUTSIDE)
def test_cut_off(struck: Machine, fault: str) -> None:
    """ssh and power, really cut at a random moment; a try is taken back without anybody's help."""
    series = Series(struck.suite)
    series.prepare()
    result = series.outside(fault, OUTSIDE[fault], 0)
    struck.forget_connection()
    assert result["problems"] == []
