# SPDX-License-Identifier: LGPL-2.1-or-later
"""Single services: enable and disable in both trackings, limits, the demo service, drift."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.vm.machine import GUEST, Machine

LIMITED = """[Service]
ExecStart=/usr/bin/sleep infinity
MemoryMax=64M
MemoryHigh=5%
TasksMax=33
CPUQuota=50%
CPUWeight=50
"""
LAYER = "/system.slice/system-limited.service.slice"
INSTANCE = f"{LAYER}/limited.service"
PLAIN = "/system.slice/limited.service"
LIMITS = {"memory.max": str(64 << 20), "pids.max": "33", "cpu.max": "50000 100000"}


@pytest.fixture
def limited(fresh: Machine) -> Iterator[Machine]:
    """A running plain service with limits; afterwards neither it nor a layer of it is left."""
    fresh.write("/etc/systemd/system/limited.service", LIMITED)
    fresh.ok("systemctl daemon-reload && systemctl start limited")
    yield fresh
    if fresh.run(f"ls -d /etc/systemd/system/system-limited.* /sys/fs/cgroup{LAYER}").out:
        fresh.tool("disable", "--now", "limited")
    fresh.ok("systemctl stop limited; rm -f /etc/systemd/system/limited.service; systemctl daemon-reload")
    fresh.ok(f"test ! -e /sys/fs/cgroup{LAYER}")


def limits(machine: Machine, cgroup: str) -> dict[str, str]:
    """The limits that a cgroup has."""
    return {name: machine.cgroup_file(cgroup, name) for name in LIMITS}


@pytest.mark.on("forky")
def test_life_of_a_layer_in_instance_tracking(limited: Machine) -> None:
    """Enable, wait for the next start, edit, override, disable: what is promised at each step."""
    before = limited.manifest()
    assert limited.tool("is-enabled", "limited").out == "disabled\n"
    limited.tool_ok("enable", "limited", "--dry-run")
    assert limited.manifest() == before

    invocation = limited.show("limited", "InvocationID")
    assert "at its next start" in limited.tool_ok("enable", "limited").err
    assert limited.show("limited", "InvocationID") == invocation, "only --now restarts"
    assert limited.show("limited", "ControlGroup") == PLAIN
    assert limits(limited, PLAIN) == LIMITS, "pending services keep their limits"
    assert limited.tool("verify", "limited").code == 0, "a pending service is judged by its cgroup"
    assert "Nothing to change" in limited.tool_ok("enable", "limited").err
    result = limited.tool("is-enabled", "limited")
    assert (result.code, result.out) == (0, "enabled\n")

    limited.ok("systemctl restart limited")
    assert limited.show("limited", "ControlGroup") == INSTANCE
    assert limits(limited, INSTANCE) == LIMITS
    assert limited.cgroup_file(LAYER, "memory.max") == LIMITS["memory.max"]
    assert limited.cgroup_file(LAYER, "memory.high") == limited.cgroup_file(INSTANCE, "memory.high") != "max"
    assert limited.cgroup_file(LAYER, "cpu.weight") == "50"
    assert limited.cgroup_file(LAYER, "pids.max") == "max"
    shown = limited.tool_ok("cat", "limited").out
    assert "Slice=system-limited.service.slice" in shown
    assert "\nMemoryMax=64M\n" in shown, "values are taken over as they are written"

    limited.ok("systemctl set-property limited MemoryMax=96M")
    result = limited.tool("verify", "limited")
    assert result.code == 1, "an edit of the unit is drift"
    assert "files" in result.out
    limited.tool_ok("enable", "limited")
    assert limited.cgroup_file(LAYER, "memory.max") == str(96 << 20)
    # 257 does not bring the cgroup of a running unit up to date at a reload: so set it back first.
    limited.ok("systemctl set-property limited MemoryMax=64M; rm -r /etc/systemd/system.control")
    limited.ok("systemctl daemon-reload")
    limited.tool_ok("enable", "limited")

    limited.write("/etc/systemd/system/limited.service.d/zzz.conf", "[Service]\nSlice=system.slice\n")
    limited.ok("systemctl daemon-reload")
    result = limited.tool("verify", "limited")
    assert result.code == 1, "a foreign override breaks the promise"
    assert "zzz.conf" in result.out
    limited.ok("rm /etc/systemd/system/limited.service.d/zzz.conf; systemctl daemon-reload")
    assert limited.tool("verify", "limited").code == 0

    limited.tool_ok("disable", "limited")
    for reload in ("true", "systemctl daemon-reload", "systemctl daemon-reexec"):
        limited.ok(reload)
        assert limits(limited, INSTANCE) == LIMITS, f"limits hold until the restart, after {reload} too"
    assert limited.manifest() == before
    limited.tool_ok("disable", "--now", "limited")
    assert limited.show("limited", "ControlGroup") == PLAIN
    limited.ok(f"test ! -e /sys/fs/cgroup{LAYER}")
    assert limits(limited, PLAIN) == LIMITS
    result = limited.tool("is-enabled", "limited")
    assert (result.code, result.out) == (1, "disabled\n")


@pytest.mark.on("bookworm")
def test_life_of_a_layer_in_service_tracking(limited: Machine) -> None:
    """The memory controller is off at the instance, and the layer's limits hold until its end."""
    before = limited.manifest()
    result = limited.tool("enable", "--now", "--tracking=service", "limited")
    assert result.code == 1 and "--accept-oom-policy-loss" in result.err, "what is lost must be accepted"
    assert limited.manifest() == before
    limited.tool_ok("enable", "--now", "--tracking=service", "--accept-oom-policy-loss", "limited")
    assert limited.show("limited", "ControlGroup") == INSTANCE
    limited.ok(f"test ! -e /sys/fs/cgroup{INSTANCE}/memory.max")
    where = {"memory.max": LAYER, "pids.max": INSTANCE, "cpu.max": INSTANCE}
    assert {name: limited.cgroup_file(cgroup, name) for name, cgroup in where.items()} == LIMITS
    assert limited.tool("verify", "limited").code == 0
    result = limited.tool_ok("disable", "limited")
    limited.ok("systemctl daemon-reload")
    assert {name: limited.cgroup_file(cgroup, name) for name, cgroup in where.items()} == LIMITS
    left = set(limited.manifest()) - set(before)
    assert left == {"/run/systemd/system/system-limited.service.slice"}
    assert "/run/systemd/system/system-limited.service.slice" in result.err, "what is left is said"
    limited.ok("systemctl restart limited")
    assert limited.show("limited", "ControlGroup") == PLAIN
    assert limits(limited, PLAIN) == LIMITS
    limited.tool_ok("disable", "--now", "limited")
    limited.ok(f"test ! -e /sys/fs/cgroup{LAYER}")
    assert limited.manifest() == before


@pytest.mark.long
def test_until_the_next_boot(limited: Machine) -> None:
    """--runtime writes to /run; a `.d` folder that was there before, empty as it may be, is not ours to remove."""
    limited.ok("mkdir -p -m 0700 /run/systemd/system/limited.service.d")
    before = limited.manifest()
    limited.tool_ok("enable", "--now", "--runtime", "limited")
    limited.ok("test -e /run/systemd/system/limited.service.d/zz-cgroup-layering.conf")
    limited.ok("test ! -e /etc/systemd/system/limited.service.d")
    result = limited.tool("is-enabled", "limited")
    assert (result.code, result.out) == (0, "enabled-runtime\n")
    assert limited.show("limited", "ControlGroup") == INSTANCE
    limited.tool_ok("disable", "--now", "limited")
    assert limited.show("limited", "ControlGroup") == PLAIN
    limited.ok(f"test ! -e /sys/fs/cgroup{LAYER}")
    assert limited.manifest() == before
    limited.ok("rmdir /run/systemd/system/limited.service.d")


@pytest.mark.long
def test_rollback_leaves_a_later_enable_alone(limited: Machine) -> None:
    """Only what carries the migration's id goes."""
    limited.tool_ok("migrate", "--yes", "cron")
    limited.tool_ok("enable", "limited")
    limited.tool_ok("rollback")
    assert limited.tool("is-enabled", "cron").out == "disabled\n"
    assert limited.tool("is-enabled", "limited").out == "enabled\n"


@pytest.mark.long
@pytest.mark.parametrize("tracking", ["instance", "service"])
def test_demo_service(fresh: Machine, tracking: str) -> None:
    """A file, a tmpfs file and a bpf map: lost by the plain service, kept by the layer in both trackings."""
    persist = f"python3 {GUEST}/persist"
    unit = fresh.ok(f"cat {GUEST}/hello.service").replace("/usr/local/lib/hello/persist", f"/usr/bin/{persist}")
    fresh.write("/etc/systemd/system/hello.service", unit)
    fresh.ok(f"systemctl daemon-reload && {persist} setup")

    def charged(entity: str) -> int:
        return int(json.loads(fresh.ok(f"python3 {GUEST}/measure {entity}"))["bytes"])

    def restart_ten_times() -> None:
        fresh.ok("for n in $(seq 10); do systemctl restart hello || exit; done")

    fresh.ok("systemctl start hello")
    first = charged("hello.service")
    assert first > 112 << 20
    restart_ten_times()
    assert charged("hello.service") < 0.05 * first
    fresh.ok(f"systemctl stop hello && {persist} cleanup")
    result = fresh.tool_ok("enable", "--now", f"--tracking={tracking}", "--accept-oom-policy-loss", "hello")
    if tracking == "service" and fresh.suite == "bookworm":
        assert "systemd-oomd" in result.err, "Debian 12 has ManagedOOMSwap=kill on -.slice"
    fresh.ok("systemctl start hello")
    layer = "system-hello.service.slice"
    first = charged(layer)
    assert first > 112 << 20
    restart_ten_times()
    assert charged(layer) > 0.99 * first
    assert fresh.tool("verify", "hello").code == 0
    fresh.ok(f"systemctl stop hello && {persist} cleanup")
    fresh.tool_ok("disable", "hello")
    fresh.ok("rm /etc/systemd/system/hello.service; systemctl daemon-reload")
