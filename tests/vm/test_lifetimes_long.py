# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of lifetimes takes long: boots, hundreds of restarts, and a host that runs out of memory and swap."""

from __future__ import annotations

import time

import pytest

from tests.vm.machine import GUEST, Machine

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]
MIB = 1 << 20
SLEEPER = "[Service]\nExecStart=sleep infinity\n"
WRITER = """[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
ExecStartPre=sh -c 'dd if=/dev/zero of=/var/tmp/writer/$INVOCATION_ID bs=64K count=4 conv=fsync status=none'
ExecStart=sleep infinity
"""
LIMIT = 50
KEEPER = "[Service]\nType=oneshot\nExecStart=sh -c 'head -c 230M /dev/urandom > /dev/shm/keeper'\n"
HOG = f"[Service]\nMemoryMax=800M\nExecStart=python3 {GUEST}/hog.py\n"


def layer(unit: str) -> str:
    return f"system-{unit}.service.slice"


def dying(machine: Machine, unit: str) -> int:
    text = machine.cgroup_file(f"/system.slice/{layer(unit)}", "cgroup.stat")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("nr_dying_descendants"))


def test_a_layer_that_is_forever_comes_with_the_boot(fresh: Machine) -> None:
    """By its own rule and by the configuration's; the services are not enabled, and reap has not run."""
    before = fresh.manifest()
    for unit in ("own", "conf"):
        fresh.write(f"/etc/systemd/system/{unit}.service", SLEEPER)
    fresh.ok("systemctl daemon-reload")
    plain = fresh.manifest()
    fresh.tool_ok("enable", "own", "conf")
    fresh.tool_ok("lifetime", "own", "forever")
    fresh.write("/etc/cgroup-layering/10-test.toml", "[lifetime.units]\n'conf*' = 'forever'\n")
    wrong = fresh.tool("verify")
    assert wrong.code == 1 and f"slices.target.wants/{layer('conf')} is missing" in wrong.out
    assert fresh.json("reap")["links"] == {layer("conf"): True}
    assert fresh.tool_ok("verify").out == ""
    assert fresh.reboot() == "running"
    for unit in ("own", "conf"):
        assert fresh.show(layer(unit), "ActiveState") == "active"
        assert fresh.show(unit, "ActiveState") == "inactive"
        entered = int(fresh.show(layer(unit), "ActiveEnterTimestampMonotonic"))
        assert entered <= int(fresh.show("multi-user.target", "ActiveEnterTimestampMonotonic"))
    # The clean shutdown before and this boot: systemd would tell of a cycle that it had to break.
    assert fresh.run("journalctl -b all --no-pager -q -g 'ordering cycle|Breaking'").out == ""
    assert "system-own" not in fresh.ok("systemctl show -p After -p Before slices.target shutdown.target")
    fresh.tool_ok("lifetime", "own", "boot")
    fresh.ok("rm /etc/cgroup-layering/10-test.toml; rmdir /etc/cgroup-layering")
    assert fresh.json("reap")["links"] == {layer("conf"): False}
    assert fresh.run("ls -d /etc/systemd/system/slices.target.wants").code != 0
    fresh.tool_ok("lifetime", "own", "forever")
    fresh.tool_ok("disable", "own", "conf")
    now = fresh.manifest()
    ours = [path for path in now if "own" in path or "conf." in path or "slices.target" in path]
    assert {path: now[path] for path in ours} == {path: plain[path] for path in ours}
    assert "/etc/systemd/system/slices.target.wants" not in before


def test_dying_cgroups_stay_below_the_limit(fresh: Machine) -> None:
    """200 restarts of a service that leaves page cache each time: first without reap, then with it."""
    fresh.write("/etc/systemd/system/writer.service", WRITER)
    fresh.write("/etc/cgroup-layering/10-test.toml", f"[reap]\ndying = {LIMIT}\n")
    fresh.ok("mkdir -p /var/tmp/writer; systemctl stop cgroup-layering-reap.timer; systemctl daemon-reload")
    fresh.tool_ok("enable", "--now", "writer")

    def restart(times: int) -> None:
        """Some at a time: a connection that says nothing for minutes is given up."""
        for _ in range(times // 20):
            fresh.ok("for i in $(seq 20); do systemctl restart writer || exit 1; done")

    restart(200)
    without = dying(fresh, "writer")
    shrunk = fresh.json("reap")["shrunk"]
    after = dying(fresh, "writer")
    seen = []
    for _ in range(5):
        restart(40)
        high = dying(fresh, "writer")
        fresh.ok("systemctl start cgroup-layering-reap.service")
        seen.append((high, dying(fresh, "writer")))
    print(f"{fresh.suite}: dying after 200 restarts {without}, after reap {after} ({shrunk}); every 40 restarts {seen}")
    assert after <= LIMIT and all(low <= LIMIT for _, low in seen)
    if fresh.suite == "forky":
        assert without <= LIMIT and shrunk == {}, "Linux 7.1 gives their pages to the parent"
    else:
        assert without > LIMIT, "nothing was there to be shrunk"


def test_systemd_oomd_kills_the_hog_not_the_empty_layer(fresh: Machine) -> None:
    """Debian 12's systemd-oomd monitors -.slice: the most swap is in an empty layer, and omit keeps it off that."""
    if fresh.suite != "bookworm":
        assert fresh.ok("systemctl show -p ManagedOOMSwap -- -.slice") == "ManagedOOMSwap=auto"
        return
    fresh.write(f"{GUEST}/hog.py", "import time\nheld = b'x' * (900 << 20)\ntime.sleep(100000)\n")
    fresh.write("/etc/systemd/system/keeper.service", KEEPER)
    fresh.write("/etc/systemd/system/hog.service", HOG)
    fresh.write("/etc/systemd/oomd.conf.d/10-test.conf", "[OOM]\nSwapUsedLimit=50%\n")
    fresh.ok(
        "fallocate -l 400M /var/swap && chmod 600 /var/swap && mkswap -q /var/swap && swapon /var/swap && "
        "systemctl daemon-reload && systemctl restart systemd-oomd"
    )
    assert fresh.ok("systemctl show -p ManagedOOMSwap -- -.slice") == "ManagedOOMSwap=kill"
    fresh.tool_ok("enable", "keeper")
    fresh.ok("systemctl start keeper")
    fresh.json("drain", "keeper", "--swap", "--timeout", "5min")
    folder = f"/sys/fs/cgroup/system.slice/{layer('keeper')}"
    swapped = int(fresh.cgroup_file(f"/system.slice/{layer('keeper')}", "memory.swap.current"))
    assert swapped > 200 * MIB
    # 252 leaves the attribute on a live slice when the property goes.
    fresh.ok(f'python3 -c \'import os; os.removexattr("{folder}", "user.oomd_omit")\'')
    fresh.ok("systemctl start hog")
    chosen = "journalctl -u systemd-oomd --no-pager -q -g '{}'"
    deadline = time.monotonic() + 600
    while fresh.run(chosen.format("keeper")).code != 0 and time.monotonic() < deadline:
        time.sleep(5)
    time.sleep(45)  # two more rounds of systemd-oomd, which waits 15 s after each
    told = fresh.ok(chosen.format("keeper"))
    print(f"without omit:\n{told}")
    assert fresh.show("hog", "ActiveState") == "active" and "hog" not in told
    fresh.ok(f'python3 -c \'import os; os.setxattr("{folder}", "user.oomd_omit", b"1")\'')
    deadline = time.monotonic() + 300
    while fresh.show("hog", "ActiveState") == "active" and time.monotonic() < deadline:
        time.sleep(5)
    print(f"with omit:\n{fresh.run(chosen.format('hog')).out}")
    assert fresh.show("hog", "Result") == "oom-kill"
    assert int(fresh.cgroup_file(f"/system.slice/{layer('keeper')}", "memory.swap.current")) > 200 * MIB
