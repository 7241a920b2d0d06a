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


def test_enable_writes_and_only_now_restarts(limited: Machine) -> None:
    """Like systemctl's enable: files at once, the move with the next start."""
    invocation = limited.show("limited", "InvocationID")
    result = limited.tool_ok("enable", "limited")
    assert "at its next start" in result.err
    assert limited.show("limited", "InvocationID") == invocation
    assert limited.show("limited", "ControlGroup") == PLAIN
    assert limits(limited, PLAIN) == LIMITS, "pending services keep their limits"
    assert limited.tool("is-enabled", "limited").out == "enabled\n"
    (service,) = limited.json("status", "limited")["services"]
    assert service["place"] == "pending"
    assert limited.tool("verify", "limited").code == 0, "a pending service is judged by its cgroup"
    again = limited.tool_ok("enable", "limited")
    assert "Nothing to change" in again.err
    limited.ok("kill -9 $(systemctl show --value -p MainPID limited); sleep 1; systemctl restart limited")
    assert limited.show("limited", "ControlGroup") == INSTANCE


def test_is_enabled_has_systemctls_words_and_codes(limited: Machine) -> None:
    """0, 1 and 4."""
    result = limited.tool("is-enabled", "limited")
    assert (result.code, result.out) == (1, "disabled\n")
    result = limited.tool("is-enabled", "no-such-unit")
    assert (result.code, result.out) == (4, "not-found\n")
    limited.tool_ok("enable", "--runtime", "limited")
    result = limited.tool("is-enabled", "limited")
    assert (result.code, result.out) == (0, "enabled-runtime\n")
    limited.ok("test -e /run/systemd/system/limited.service.d/zz-cgroup-layering.conf")
    limited.ok("test ! -e /etc/systemd/system/limited.service.d")
    limited.tool_ok("disable", "limited")
    assert limited.tool("is-enabled", "-q", "limited").code == 1


def test_instance_tracking_keeps_limits_at_both_levels(limited: Machine) -> None:
    """Memory limits and weights on the layer too, everything else where it was."""
    limited.tool_ok("enable", "--now", "limited")
    assert limited.show("limited", "ControlGroup") == INSTANCE
    assert limits(limited, INSTANCE) == LIMITS
    assert limited.cgroup_file(LAYER, "memory.max") == LIMITS["memory.max"]
    assert limited.cgroup_file(LAYER, "memory.high") == limited.cgroup_file(INSTANCE, "memory.high") != "max"
    assert limited.cgroup_file(LAYER, "cpu.weight") == "50"
    assert limited.cgroup_file(LAYER, "pids.max") == "max"
    assert limited.tool("verify", "limited").code == 0
    shown = limited.tool_ok("cat", "limited").out
    assert "Slice=system-limited.service.slice" in shown
    assert "\nMemoryMax=64M\n" in shown, "values are taken over as they are written"


def test_service_tracking_counts_memory_at_the_layer_alone(limited: Machine) -> None:
    """The memory controller is off at the instance; its limits are the layer's."""
    limited.tool_ok("enable", "--now", "--tracking=service", "limited")
    assert limited.show("limited", "ControlGroup") == INSTANCE
    limited.ok(f"test ! -e /sys/fs/cgroup{INSTANCE}/memory.max")
    assert limited.cgroup_file(LAYER, "memory.max") == LIMITS["memory.max"]
    assert limited.cgroup_file(INSTANCE, "pids.max") == "33"
    assert limited.tool("verify", "limited").code == 0


@pytest.mark.parametrize("tracking", ["instance", "service"])
def test_limits_hold_until_the_restart_after_disable(limited: Machine, tracking: str) -> None:
    """Un-layering under a running instance: the reload would take the controllers, and with them the limits."""
    before = limited.manifest()
    limited.tool_ok("enable", "--now", f"--tracking={tracking}", "limited")
    where = {"memory.max": INSTANCE if tracking == "instance" else LAYER, "pids.max": INSTANCE, "cpu.max": INSTANCE}
    held = {name: limited.cgroup_file(cgroup, name) for name, cgroup in where.items()}
    assert held == LIMITS
    result = limited.tool_ok("disable", "limited")
    for reload in ("true", "systemctl daemon-reload", "systemctl daemon-reexec"):
        limited.ok(reload)
        assert {name: limited.cgroup_file(cgroup, name) for name, cgroup in where.items()} == LIMITS, reload
    after = limited.manifest()
    if tracking == "instance":
        assert after == before
    else:
        kept = set(after) - set(before)
        assert kept == {"/run/systemd/system/system-limited.service.slice"}
        assert "/run/systemd/system/system-limited.service.slice" in result.err, "what is left is said"
    limited.ok("systemctl restart limited")
    assert limited.show("limited", "ControlGroup") == PLAIN
    assert limits(limited, PLAIN) == LIMITS
    limited.tool_ok("disable", "--now", "limited")
    limited.ok(f"test ! -e /sys/fs/cgroup{LAYER}")
    assert limited.manifest() == before


def test_disable_now_goes_back_at_once(limited: Machine) -> None:
    """Files gone, service in its former cgroup, layer stopped."""
    before = limited.manifest()
    limited.tool_ok("enable", "--now", "limited")
    limited.tool_ok("disable", "--now", "limited")
    assert limited.show("limited", "ControlGroup") == PLAIN
    limited.ok(f"test ! -e /sys/fs/cgroup{LAYER}")
    assert limited.manifest() == before


def test_an_empty_folder_of_others_stays(limited: Machine) -> None:
    """A `.d` folder that was there before, empty as it may be, is not ours to remove."""
    limited.ok("mkdir -m 0700 /etc/systemd/system/limited.service.d")
    before = limited.manifest()
    limited.tool_ok("enable", "limited")
    limited.tool_ok("disable", "limited")
    assert limited.manifest() == before
    limited.ok("rmdir /etc/systemd/system/limited.service.d")


def test_drift_is_seen(limited: Machine) -> None:
    """An edit of the unit shows in status and fails verify until the layer is brought up to date."""
    limited.tool_ok("enable", "--now", "limited")
    limited.ok("systemctl set-property limited MemoryMax=96M")
    result = limited.tool("verify", "limited")
    assert result.code == 1
    assert "files" in result.out
    assert "drift" in limited.tool("status").out
    limited.tool_ok("enable", "limited")
    assert limited.cgroup_file(LAYER, "memory.max") == str(96 << 20)
    assert limited.tool("verify", "limited").code == 0
    limited.ok("rm -r /etc/systemd/system.control/limited.service.d; systemctl daemon-reload")


def test_a_foreign_override_is_seen(limited: Machine) -> None:
    """A drop-in that sorts behind ours and sets Slice= breaks the promise."""
    limited.tool_ok("enable", "--now", "limited")
    limited.write("/etc/systemd/system/limited.service.d/zzz.conf", "[Service]\nSlice=system.slice\n")
    limited.ok("systemctl daemon-reload")
    result = limited.tool("verify", "limited")
    assert result.code == 1
    assert "zzz.conf" in result.out
    limited.ok("rm /etc/systemd/system/limited.service.d/zzz.conf; systemctl daemon-reload")


def test_dry_run_changes_nothing(limited: Machine) -> None:
    """Neither files nor layers."""
    before = limited.manifest()
    for verb in (("enable", "limited"), ("migrate",), ("disable", "limited"), ("rollback",)):
        limited.tool_ok(*verb, "--dry-run")
    assert limited.manifest() == before


def test_rollback_leaves_a_later_enable_alone(limited: Machine) -> None:
    """Only what carries the migration's id goes."""
    limited.tool_ok("migrate", "--yes", "cron")
    limited.tool_ok("enable", "limited")
    limited.tool_ok("rollback")
    assert limited.tool("is-enabled", "cron").out == "disabled\n"
    assert limited.tool("is-enabled", "limited").out == "enabled\n"


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
    result = fresh.tool_ok("enable", "--now", f"--tracking={tracking}", "hello")
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
