# SPDX-License-Identifier: LGPL-2.1-or-later
"""What of lifetimes takes long: boots, hundreds of restarts, and a host that runs out of memory and swap."""

from __future__ import annotations

import time

import pytest

from tests.vm.machine import GUEST, Machine, Result

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
# More than it may have in memory: the rest is in swap. Held below what the layer has there, as pages come and go and it
# was seen to have 263 MB for a moment: then it was the first to be chosen. MemoryHigh, as with MemoryMax the kernel
# killed it where the disk was slow to take its pages.
HOG = f"[Service]\nMemoryHigh=600M\nMemorySwapMax=200M\nExecStart=python3 {GUEST}/hog.py\n"
HELD = 660 * MIB
SWAP = 640 * MIB


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
    # It comes some minutes after the boot, and would take the link away before the command that is looked at.
    fresh.ok("systemctl stop cgroup-layering-reap.timer cgroup-layering-reap.service")
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
    """Restarts of a service that leaves page cache each time: 100 without reap, then 200 with it."""
    fresh.write("/etc/systemd/system/writer.service", WRITER)
    fresh.write("/etc/cgroup-layering/10-test.toml", f"[reap]\ndying = {LIMIT}\n")
    fresh.ok("mkdir -p /var/tmp/writer; systemctl stop cgroup-layering-reap.timer; systemctl daemon-reload")
    fresh.tool_ok("enable", "--now", "writer")

    def restart(times: int) -> None:
        """Some at a time: a connection that says nothing for minutes is given up."""
        for _ in range(times // 20):
            fresh.ok("for i in $(seq 20); do systemctl restart writer || exit 1; done")

    restart(100)
    without = dying(fresh, "writer")
    shrunk = fresh.json("reap")["shrunk"]
    after = dying(fresh, "writer")
    seen = []
    for _ in range(5):
        restart(40)
        high = dying(fresh, "writer")
        fresh.ok("systemctl start cgroup-layering-reap.service")
        seen.append((high, dying(fresh, "writer")))
    print(f"{fresh.suite}: dying after 100 restarts {without}, after reap {after} ({shrunk}); every 40 restarts {seen}")
    assert after <= LIMIT and all(low <= LIMIT for _, low in seen)
    if fresh.suite == "forky":
        assert without <= LIMIT and shrunk == {}, "Linux 7.1 gives their pages to the parent"
    else:
        assert without > LIMIT, "nothing was there to be shrunk"


def attribute(machine: Machine, call: str, cgroup: str, *words: str) -> Result:
    """Call os.getxattr and the like on a cgroup's folder."""
    arguments = ", ".join((f'"/sys/fs/cgroup{cgroup}"', *(f'"user.{word}"' for word in words[:1]), *words[1:]))
    return machine.run(f"python3 -c 'import os; print((os.{call}({arguments}) or b\"\").decode())'")


def choices(machine: Machine, cgroup: str) -> int:
    """How often systemd-oomd has chosen a cgroup: it counts that also where nothing was there to be killed."""
    told = attribute(machine, "getxattr", cgroup, "oomd_ooms")
    return int(told.out) if told.code == 0 else 0


def test_systemd_oomd_kills_the_hog_not_the_empty_layer(fresh: Machine) -> None:
    """Debian 12's systemd-oomd monitors -.slice: the most swap is in an empty layer, and omit keeps it off that."""
    if fresh.suite != "bookworm":
        assert fresh.ok("systemctl show -p ManagedOOMSwap -- -.slice") == "ManagedOOMSwap=auto"
        return
    fresh.write(f"{GUEST}/hog.py", f"import time\nheld = b'x' * {HELD}\ntime.sleep(100000)\n")
    fresh.write("/etc/systemd/system/keeper.service", KEEPER)
    fresh.write("/etc/systemd/system/hog.service", HOG)
    fresh.write("/etc/systemd/oomd.conf.d/10-test.conf", "[OOM]\nSwapUsedLimit=30%\n")
    fresh.ok(
        f"fallocate -l {SWAP} /var/swap && chmod 600 /var/swap && mkswap -q /var/swap && swapon /var/swap && "
        "systemctl daemon-reload && systemctl restart systemd-oomd"
    )
    assert fresh.ok("systemctl show -p ManagedOOMSwap -- -.slice") == "ManagedOOMSwap=kill"
    fresh.tool_ok("enable", "keeper")
    fresh.ok("systemctl start keeper")
    fresh.json("drain", "keeper", "--swap", "--timeout", "5min")
    cgroup = f"/system.slice/{layer('keeper')}"
    swapped = int(fresh.cgroup_file(cgroup, "memory.swap.current"))
    assert swapped > 200 * MIB
    # 252 leaves the attribute on a live slice when the property goes.
    assert attribute(fresh, "removexattr", cgroup, "oomd_omit").code == 0
    fresh.ok("systemctl start hog")
    deadline = time.monotonic() + 300
    while choices(fresh, cgroup) == 0 and time.monotonic() < deadline:
        time.sleep(5)
    before = choices(fresh, cgroup)
    time.sleep(60)
    again = choices(fresh, cgroup)
    hog = int(fresh.cgroup_file("/system.slice/hog.service", "memory.swap.current"))
    print(f"without omit: {swapped >> 20} MiB of the layer in swap, {hog >> 20} of the hog; chosen {before}, {again}")
    assert again > before > 0, "it is chosen for ever"
    assert fresh.show("hog", "ActiveState") == "active" and choices(fresh, "/system.slice/hog.service") == 0
    assert hog > SWAP * 5 // 100, "enough for systemd-oomd to choose it, were it not for the layer"
    assert attribute(fresh, "setxattr", cgroup, "oomd_omit", 'b"1"').code == 0
    deadline = time.monotonic() + 300
    while fresh.show("hog", "ActiveState") == "active" and time.monotonic() < deadline:
        time.sleep(2)
    told = fresh.ok("journalctl -u systemd-oomd --no-pager -q -o cat -g '^Killed '")
    print(f"with omit: {told}")
    # It is chosen once more while the kernel still takes its memory apart.
    killed = "Killed /system.slice/hog.service due to memory used"
    assert told and all(line.startswith(killed) for line in told.splitlines()), told
    assert fresh.show("hog", "Result") == "oom-kill"
    assert int(fresh.cgroup_file(cgroup, "memory.swap.current")) > 200 * MIB
