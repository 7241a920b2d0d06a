# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole host is migrated by a plan from a file, on trial, confirmed, rebooted, and rolled back without a trace."""

from __future__ import annotations

import json

import pytest

from tests.vm.machine import Machine

pytestmark = [pytest.mark.on("trixie"), pytest.mark.long]

PLAN = "/root/whole.plan"


def layered(machine: Machine) -> dict[str, str]:
    """The running services that are in a layer, and their cgroups."""
    return {unit: group for unit, group in machine.services("active").items() if ".service.slice/" in group}


def test_a_whole_host_by_a_plan_on_trial(fresh: Machine) -> None:
    before, plain = fresh.manifest(), fresh.services("active")
    assert fresh.tool("plan", "--out", PLAN, "--detailed-exitcode").code == 2
    fresh.ok(f"chmod g+w {PLAN}")
    refused = fresh.tool("migrate", PLAN, "--now", "--try=900", "--no-block")
    assert refused.code == 1 and "others than its owner may write" in refused.err and fresh.manifest() == before
    fresh.ok(f"chmod g-w {PLAN}")
    fresh.tool_ok("migrate", PLAN, "--now", "--try=900", "--no-block")
    tried = layered(fresh)
    assert len(tried) >= 4 and fresh.services("active").keys() == plain.keys()
    assert not [path for path in fresh.manifest() if path.startswith("/etc/") and "zz-cgroup-layering" in path]
    kept = json.loads(fresh.tool_ok("confirm", "--json=short").out)
    assert kept["failed"] == {} and set(tried) <= set(kept["written"])
    assert layered(fresh) == tried, "nothing was restarted"
    assert fresh.run("systemctl is-active cgroup-layering-try.timer").out.strip() != "active"
    assert fresh.tool("verify").code == 0
    assert fresh.tool("plan", "--detailed-exitcode").code == 0
    assert fresh.reboot() == "running"
    assert set(tried) <= set(layered(fresh)), "what was confirmed comes with the boot"
    assert set(layered(fresh)) > set(tried), "and so does what moves at the boot only"
    fresh.tool_ok("rollback", "--now")
    assert {path for path in fresh.manifest() if path.startswith("/etc/")} == {
        path for path in before if path.startswith("/etc/")
    }
    assert not set(tried) & set(layered(fresh))
