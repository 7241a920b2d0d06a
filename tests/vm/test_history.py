# SPDX-License-Identifier: LGPL-2.1-or-later
"""History on real hosts: what systemd wrote of ended instances, what the kernel says of the live one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.vm.machine import Machine

pytestmark = pytest.mark.on("forky")

MIB = 1 << 20
UNIT = "/etc/systemd/system/busy.service"
LAYER = "system-busy.service.slice"
SHM, FILE = "/dev/shm/busy", "/var/tmp/busy"
BUSY = f"""[Service]
IOAccounting=yes
IPAccounting=yes
ExecStart=sh -c 'dd if=/dev/zero of={FILE} bs=1M count=4 oflag=direct status=none; \\
    head -c 80M /dev/zero > {SHM}; exec sleep infinity'
"""
CRASH = "[Service]\nType=oneshot\nExecStart=sh -c 'exit 3'\n"


@pytest.fixture(scope="module")
def busy(fresh: Machine) -> Machine:
    """A layered service that writes 4 MiB and keeps 80 MiB on tmpfs, and a plain one that fails."""
    fresh.write(UNIT, BUSY)
    fresh.write("/etc/systemd/system/crash.service", CRASH)
    fresh.ok("systemctl daemon-reload")
    fresh.tool_ok("enable", "busy")
    # It is ready when dd and head are done.
    fresh.ok(f"systemctl start busy; until [ $(stat -c %s {SHM}) = {80 * MIB} ]; do sleep 0.2; done")
    return fresh


def read(machine: Machine, *words: str) -> Any:
    return machine.json("history", *words)


@pytest.mark.long
def test_the_live_instance_is_read_from_the_kernel(busy: Machine) -> None:
    document = read(busy, "busy")
    (one,) = document["instances"]
    assert one["live"] and one["started_usec"] and one["ended_usec"] is None
    assert one["invocation"] == busy.show("busy", "InvocationID")
    assert one["cpu_nsec"] > 0 and one["io_write_bytes"] >= 4 * MIB and one["memory_peak_bytes"] >= 80 * MIB
    assert document["layered"] is True and document["outlived_bytes"] < 8 * MIB


@pytest.mark.long
def test_an_ended_instance_is_read_from_the_journal(busy: Machine) -> None:
    invocation = busy.show("busy", "InvocationID")
    busy.ok("systemctl stop busy; systemctl start crash || true")
    document = read(busy, "busy")
    (one,) = document["instances"]
    assert (one["invocation"], one["live"], one["result"], one["recorded"]) == (invocation, False, "success", True)
    assert 0 < one["started_usec"] < one["ended_usec"]
    assert one["cpu_nsec"] > 0 and one["ip_egress_bytes"] == 0
    if busy.suite == "bookworm":
        assert one["memory_peak_bytes"] is None, "not before 257"
    else:
        assert one["io_write_bytes"] >= 4 * MIB
        assert 80 * MIB <= one["memory_peak_bytes"] == one["left_at_most_bytes"]
    # It alone has ended in this layer, so what is there is what it left.
    current = int(busy.cgroup_file(f"/system.slice/{LAYER}", "memory.current"))
    assert one["left_bytes"] == document["outlived_bytes"] and abs(current - one["left_bytes"]) < 4 * MIB
    assert one["left_bytes"] >= 80 * MIB
    (failed,) = read(busy, "crash")["instances"]
    assert failed["result"] == "exit-code" and failed["ended_usec"] and failed["left_bytes"] is None
    assert failed["cpu_nsec"] is None and "not layered" in failed["left_why"], "it used too little to be written of"


@pytest.mark.long
def test_many_instances(busy: Machine) -> None:
    busy.ok("for i in 1 2 3; do systemctl start busy; sleep 0.5; systemctl stop busy; done")
    rows = read(busy, "busy", "-n", "2")["instances"]
    assert len(rows) == 2 and rows[0]["ended_usec"] <= rows[1]["started_usec"]
    assert all(one["left_bytes"] is None and "sum" in one["left_why"] for one in rows)
    assert len(read(busy, "busy", "-n", "all")["instances"]) == 4
    assert read(busy, "busy", "--since", f"@{rows[1]['started_usec'] // 1_000_000 + 1}")["instances"] in ([], [rows[1]])
    text = busy.tool_ok("history", "busy", "-n", "all")
    assert len(text.out.splitlines()) == 4 and "success" in text.out and "sum" in text.err
    # Its files are gone, its history is not.
    busy.tool_ok("disable", "busy")
    busy.ok(f"rm -f {UNIT} {SHM} {FILE}; systemctl daemon-reload")
    assert len(read(busy, "busy", "-n", "all")["instances"]) == 4
    missing = busy.tool("history", "no-such")
    assert missing.code == 4 and "no unit no-such.service" in missing.err
    assert busy.tool("history", "b*").code == 2
