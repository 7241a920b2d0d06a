# SPDX-License-Identifier: LGPL-2.1-or-later
"""Migrations from a plan's file and on trial: exactly that plan, and taken back by systemd itself unless confirmed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.vm.machine import Machine

pytestmark = pytest.mark.on("bookworm")

UNITS = ("trial-a.service", "trial-b.service")
SERVICE = "[Service]\nExecStart=/usr/bin/sleep infinity\nMemoryMax=64M\n"
PLAN = "/root/host.plan"
FOLDER = "/run/cgroup-layering"


@pytest.fixture(scope="module")
def trial(fresh: Machine) -> Iterator[Machine]:
    """Two plain services that run."""
    for unit in UNITS:
        fresh.write(f"/etc/systemd/system/{unit}", SERVICE)
    fresh.ok(f"systemctl daemon-reload && systemctl start {' '.join(UNITS)}")
    yield fresh


def groups(machine: Machine) -> list[str]:
    """Where the two services run."""
    return machine.ok(f"systemctl show --value -p ControlGroup {' '.join(UNITS)}").split()


PLAIN = [f"/system.slice/{unit}" for unit in UNITS]
LAYERED = [f"/system.slice/system-{unit.replace('-', chr(92) + 'x2d')}.slice/{unit}" for unit in UNITS]


def rolled_back(machine: Machine, seconds: float = 60) -> None:
    """Wait until the script has done its work."""
    deadline = time.monotonic() + seconds
    while machine.run(f"test -e {FOLDER}/rolled-back").code:
        assert time.monotonic() < deadline, machine.ok("systemctl list-timers --all; journalctl -n 30 --no-pager")
        time.sleep(1)


@pytest.mark.long
def test_a_plan_is_applied_exactly_or_not_at_all(trial: Machine) -> None:
    before = trial.manifest()
    result = trial.tool("plan", "trial-*", "--out", PLAN, "--detailed-exitcode")
    assert result.code == 2, result.err
    trial.write("/etc/systemd/system/trial-a.service.d/mine.conf", "[Service]\nMemoryMax=96M\n")
    trial.ok("systemctl daemon-reload")
    refused = trial.tool("migrate", PLAN, "--now")
    assert refused.code == 1 and "trial-a.service" in refused.err and "trial-b.service" not in refused.err
    trial.ok("rm -r /etc/systemd/system/trial-a.service.d; systemctl daemon-reload; systemctl stop trial-b")
    assert trial.manifest() == before
    trial.tool_ok("plan", "trial-*", "--out", PLAN)
    trial.ok("systemctl start trial-b")
    invocation = trial.show("trial-b.service", "InvocationID")
    trial.tool_ok("migrate", PLAN, "--now")
    assert groups(trial) == [LAYERED[0], PLAIN[1]], "what did not run when the plan was made is not restarted"
    assert trial.show("trial-b.service", "InvocationID") == invocation
    assert trial.tool("plan", "trial-*", "--detailed-exitcode").code == 0
    trial.tool_ok("rollback", "--now")
    assert groups(trial) == PLAIN and trial.manifest() == before


def test_a_trial_is_taken_back_though_the_program_is_killed(trial: Machine) -> None:
    before = trial.manifest()
    trial.ok("systemd-run --quiet --unit=caller cgroup-layering migrate trial-* --yes --now --try=12s")
    deadline = time.monotonic() + 60
    while groups(trial) != LAYERED:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert not [path for path in trial.manifest() if path.startswith("/etc/") and "zz-cgroup-layering" in path]
    trial.ok("systemctl kill --signal=SIGKILL caller; while systemctl is-active --quiet caller; do sleep 0.2; done")
    trial.run("systemctl reset-failed caller")
    rolled_back(trial)
    assert groups(trial) == PLAIN and trial.manifest() == before
    assert trial.ok("find /sys/fs/cgroup -name '*trial*.service.slice' | wc -l") == "0"
    assert "not confirmed" in trial.ok("journalctl -t cgroup-layering -n 20 -o cat --no-pager")
    late = trial.tool("confirm")
    assert late.code == 1 and "rolled back" in late.err


@pytest.mark.long
def test_a_trial_that_is_confirmed_stays(trial: Machine) -> None:
    before = trial.manifest()
    trial.ok(
        "systemd-run --quiet --unit=caller --property=RemainAfterExit=yes "
        "cgroup-layering migrate trial-* --yes --now --try=300"
    )
    deadline = time.monotonic() + 60
    while groups(trial) != LAYERED:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    again = trial.tool("migrate", "cron", "--yes", "--try")
    assert again.code == 1 and "on trial already" in again.err
    invocations = trial.ok(f"systemctl show --value -p InvocationID {' '.join(UNITS)}")
    assert json.loads(trial.tool_ok("confirm", "--json=short").out)["written"] == list(UNITS)
    assert trial.ok(f"systemctl show --value -p InvocationID {' '.join(UNITS)}") == invocations
    assert groups(trial) == LAYERED
    assert trial.tool("verify", *UNITS).code == 0
    left = [path for path in trial.manifest() if path.startswith("/run/") and path not in before]
    left = [path for path in left if not path.endswith("/caller.service")]
    assert left == [] and trial.run("systemctl is-active cgroup-layering-try.timer").out.strip() != "active"
    while trial.show("caller", "SubState") == "running":
        time.sleep(0.5)
    assert trial.show("caller", "ExecMainStatus") == "0", "the one that waited is told"
    trial.ok("systemctl stop caller; systemctl restart trial-a")
    assert groups(trial) == LAYERED
    trial.tool_ok("rollback", "--now")
    assert groups(trial) == PLAIN and trial.manifest() == before


@pytest.mark.long
def test_rollback_ends_a_trial(trial: Machine) -> None:
    before = trial.manifest()
    trial.tool_ok("migrate", "trial-*", "--yes", "--now", "--try=300", "--no-block")
    assert groups(trial) == LAYERED
    trial.tool_ok("rollback", "--now")
    assert groups(trial) == PLAIN and trial.manifest() == before
    assert trial.run("systemctl is-active cgroup-layering-try.timer").out.strip() != "active"


# A service that takes its time to stop: the signal comes while the restarts are under way.
CUT_OFF = """cgroup-layering migrate 'trial-*' --yes --now --try=30s --no-block 2>/root/cut & pid=$!
for n in $(seq 200); do systemctl list-jobs | grep -q trial-a && break; sleep 0.2; done
kill -SIGNAL $pid; wait $pid
"""


@pytest.mark.long
@pytest.mark.parametrize(("signal", "code"), [("TERM", 143), ("HUP", 129), ("KILL", 137)])
def test_a_try_that_is_cut_off_between_restarts_is_taken_back(trial: Machine, signal: str, code: int) -> None:
    trial.write("/etc/systemd/system/trial-a.service.d/slow.conf", "[Service]\nExecStop=sleep 8\n")
    trial.ok("systemctl daemon-reload")
    before = trial.manifest()
    assert trial.run(CUT_OFF.replace("SIGNAL", signal)).code == code
    assert trial.ok("systemctl is-active cgroup-layering-try.timer") == "active"
    told = trial.ok("cat /root/cut")
    assert "Traceback" not in told
    assert signal == "KILL" or "What was done of the try goes when its time is over" in told
    rolled_back(trial, 120)
    trial.ok("for n in $(seq 100); do systemctl list-jobs --no-legend | grep -q trial || break; sleep 0.2; done")
    assert groups(trial) == PLAIN and trial.manifest() == before
    assert trial.show(UNITS[0], "ActiveState") == trial.show(UNITS[1], "ActiveState") == "active"
    trial.ok(f"rm -r /etc/systemd/system/trial-a.service.d {FOLDER}/rolled-back; systemctl daemon-reload")


@pytest.mark.long
def test_two_runs_at_once_wait_for_each_other(trial: Machine) -> None:
    trial.ok("for n in 1 2; do cgroup-layering enable trial-a & cgroup-layering disable trial-a & done; wait")
    trial.tool_ok("disable", "trial-a")
    before = trial.manifest()
    held = trial.run(
        f"exec 9<>{FOLDER}/lock; flock 9; echo 'somebody (process 1)' >&9; timeout 10 cgroup-layering enable trial-a"
    )
    assert held.code == 124 and "somebody (process 1)" in held.err and trial.manifest() == before
