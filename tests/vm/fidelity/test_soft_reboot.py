# SPDX-License-Identifier: LGPL-2.1-or-later
"""`systemctl soft-reboot`: what survives it plain survives it layered, and layers keep their cgroups."""

from __future__ import annotations

import contextlib
import subprocess
import time

import pytest

from tests.vm.fidelity.groups import SOFT_REBOOT
from tests.vm.fidelity.guest.kit import OPTIONS, RUNS, TAGS, TRACKINGS
from tests.vm.fidelity.matrix import FAILED, NOT_APPLICABLE, PASS, Matrix
from tests.vm.machine import Machine

pytestmark = pytest.mark.long

SINCE = 255
"""SurviveFinalKillSignal= came one release after the soft-reboot itself."""

# As systemd-soft-reboot.service(8) has it.
SURVIVOR = """[Unit]
SurviveFinalKillSignal=yes
IgnoreOnIsolate=yes
DefaultDependencies=no
After=basic.target
Conflicts=reboot.target kexec.target poweroff.target halt.target rescue.target emergency.target
Before=shutdown.target rescue.target emergency.target
[Service]
ExecStart=/usr/bin/sleep infinity
"""
ORDINARY = """[Service]
ExecStart=/usr/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"""


def look(machine: Machine, unit: str) -> dict[str, str]:
    """The process, the cgroup and the invocation of a unit."""
    out = machine.ok(f"systemctl show -p ActiveState -p MainPID -p InvocationID -p ControlGroup {unit}")
    return dict(line.split("=", 1) for line in out.splitlines())


def soft_reboot(machine: Machine, unit: str) -> None:
    """Restart userspace and wait until `unit` has come back in it."""
    before = look(machine, unit)["InvocationID"]
    # The connection may be gone before the answer comes; testinfra raises RuntimeError then.
    with contextlib.suppress(RuntimeError):
        machine.run("systemctl soft-reboot")
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        time.sleep(3)
        machine.forget_connection()
        with contextlib.suppress(RuntimeError, AssertionError, subprocess.TimeoutExpired):
            now = look(machine, unit)
            if now["InvocationID"] not in ("", before) and now["ActiveState"] == "active":
                machine.run("systemctl is-system-running --wait")
                return
    raise AssertionError(f"{machine.suite} did not come back from its soft-reboot")


def test_soft_reboot(machine: Machine) -> None:
    """Survivors keep their process; the others start anew, in the layers that were there before."""
    machine.restore()
    matrix = Matrix(machine.suite)
    version = int(machine.ok("systemctl --version").split()[1])
    if version < SINCE:
        for tracking in TRACKINGS:
            matrix.record("kinds", SOFT_REBOOT, tracking, NOT_APPLICABLE, f"systemd has it since {SINCE}.")
        return
    for tag in TAGS.values():
        machine.write(f"/etc/systemd/system/survivor-{tag}.service", SURVIVOR)
        machine.write(f"/etc/systemd/system/ordinary-{tag}.service", ORDINARY)
    machine.ok("systemctl daemon-reload")
    for tracking in TRACKINGS:
        tag = TAGS[tracking]
        machine.tool_ok("enable", *OPTIONS[tracking], f"survivor-{tag}", f"ordinary-{tag}")
    units = {run: (f"survivor-{TAGS[run]}.service", f"ordinary-{TAGS[run]}.service") for run in RUNS}
    every = " ".join(unit for pair in units.values() for unit in pair)
    machine.ok(f"systemctl enable --now $(echo {every} | tr ' ' '\\n' | grep ordinary); systemctl start {every}")
    layers = "find /sys/fs/cgroup -name '*.service.slice' -printf '%f %i\\n' | sort"
    before = {unit: look(machine, unit) for pair in units.values() for unit in pair}
    cgroups = machine.ok(layers)
    soft_reboot(machine, units["plain"][1])
    after = {unit: look(machine, unit) for pair in units.values() for unit in pair}
    for tracking in TRACKINGS:
        matrix.record("kinds", SOFT_REBOOT, tracking, FAILED)
    for run in RUNS:
        survivor, ordinary = units[run]
        assert after[survivor] == before[survivor], run
        assert after[ordinary]["MainPID"] not in ("0", before[ordinary]["MainPID"]), run
        assert after[ordinary]["ControlGroup"] == before[ordinary]["ControlGroup"], run
    assert machine.ok(layers) == cgroups, "the cgroups of the layers are the same ones"
    assert len(cgroups.splitlines()) == 4
    for tracking in TRACKINGS:
        matrix.record("kinds", SOFT_REBOOT, tracking, PASS)
