# SPDX-License-Identifier: LGPL-2.1-or-later
"""The monitor on real hosts: rules at their moment, new services, and all that it has to live through."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from tests.vm.machine import Machine

pytestmark = pytest.mark.on("trixie")

LAYER = "system-hello.service.slice"
CGROUP = f"/system.slice/{LAYER}"
MONITOR = "cgroup-layering-monitor.service"
REAP = "cgroup-layering-reap.service"
# One that failed stays loaded, and so installed for systemd, until the next daemon-reload.
SERVICE = "[Service]\nType=exec\nExecStart=sleep infinity\nKillSignal=SIGKILL\nSuccessExitStatus=SIGKILL\n"
CONFIG = "/etc/cgroup-layering/60-test.toml"
DISABLED = "/etc/cgroup-layering/50-disabled.toml"
PSS_KIB = 25 << 10


@pytest.fixture(scope="module")
def watched(fresh: Machine) -> Iterator[Machine]:
    """A layered service whose layer may go two seconds after it stopped, and the monitor; the timer is off."""
    fresh.write("/etc/systemd/system/hello.service", SERVICE)
    fresh.ok("systemctl daemon-reload && systemctl stop cgroup-layering-reap.timer")
    fresh.tool_ok("enable", "hello")
    fresh.tool_ok("lifetime", "hello", "idle=2s")
    assert fresh.run(f"systemctl is-enabled {MONITOR}; systemctl is-active {MONITOR}").out.split() == [
        "disabled",
        "inactive",
    ]
    fresh.ok(f"systemctl start {MONITOR}")
    yield fresh


def wait(machine: Machine, condition: str, seconds: int = 300) -> None:
    """Until a shell condition holds in the guest."""
    script = f"for i in $(seq {seconds * 2}); do {condition} && exit 0; sleep 0.5; done; exit 1"
    done = machine.run(f"sh -c {_quoted(script)}")
    log = (
        f"journalctl -u {MONITOR} -u {REAP} -n 40 --no-pager -o short-monotonic; systemctl status --no-pager {MONITOR}"
    )
    assert done.code == 0, f"{condition}\n{machine.run(log).out}"


def _quoted(script: str) -> str:
    return "'" + script.replace("'", "'\\''") + "'"


def gone(cgroup: str = CGROUP) -> str:
    return f"test ! -d '/sys/fs/cgroup{cgroup}'"


def rests(machine: Machine) -> None:
    """Until the monitor has done what it has to do: its status is not that reap is at work."""
    wait(machine, f"! systemctl show -p StatusText {MONITOR} | grep -q 'at work'")


def cycle(machine: Machine) -> None:
    """The rule once for real: a start brings the layer, and a while after the stop it is gone."""
    machine.ok("systemctl start hello")
    assert machine.run(gone()).code != 0
    machine.ok("systemctl stop hello")
    wait(machine, gone())


def pid(machine: Machine) -> int:
    return int(machine.show(MONITOR, "MainPID"))


def switches(machine: Machine) -> str:
    """How often each thread of the monitor has been put on a processor or off it."""
    return machine.ok(f"grep -H ctxt /proc/{pid(machine)}/task/*/status")


@pytest.mark.long
def test_a_layer_goes_at_its_moment_without_the_timer(watched: Machine) -> None:
    cycle(watched)
    assert "Starting cgroup-layering-reap.service for system-hello.service.slice." in watched.ok(
        f"journalctl -u {MONITOR} -o cat --no-pager"
    )
    rests(watched)
    status = watched.show(MONITOR, "StatusText")
    assert re.fullmatch(r"\d+ layers?; nothing is due\.", status), status
    pss = int(watched.ok(f"awk '/^Pss:/ {{print $2}}' /proc/{pid(watched)}/smaps_rollup"))
    print(f"{watched.suite}: {pss} KiB PSS")
    assert pss <= PSS_KIB


@pytest.mark.long
def test_no_wake_ups_in_a_quiet_minute(watched: Machine) -> None:
    """Longer than a second try of anything, and WatchdogSec= is set: the watchdog must not need it to wake up."""
    rests(watched)
    time.sleep(15)
    before = switches(watched)
    time.sleep(60)
    assert switches(watched) == before
    assert watched.show(MONITOR, "NRestarts") == "0"


@pytest.mark.long
def test_killed_it_starts_again_and_the_rules_hold(watched: Machine) -> None:
    watched.ok("systemctl start hello")
    watched.ok(f"systemctl kill --signal=KILL {MONITOR}; systemctl stop hello; systemctl daemon-reexec")
    wait(watched, gone())
    assert watched.show(MONITOR, "NRestarts") == "1"
    cycle(watched)


@pytest.mark.long
def test_a_restarted_bus_is_connected_to_again(watched: Machine) -> None:
    before = pid(watched)
    watched.ok("systemctl start hello; systemctl restart dbus.service")
    cycle(watched)
    assert pid(watched) == before, "the same process"


@pytest.mark.long
def test_the_watchdog_ends_a_monitor_that_hangs_at_work(watched: Machine) -> None:
    watched.write(f"/run/systemd/system/{MONITOR}.d/short.conf", "[Service]\nWatchdogSec=20s\n")
    watched.ok(f"systemctl daemon-reload; systemctl restart {MONITOR}")
    before = pid(watched)
    time.sleep(30)
    assert pid(watched) == before, "sleeping is not hanging"
    # Stopped in the middle of a look: it has told systemd that there is work, and says no more.
    watched.write(
        "/root/hang.py",
        "import os, signal, subprocess, sys, time\n"
        "pid, end = int(sys.argv[1]), time.time() + 60\n"
        "show = ['systemctl', 'show', '--value', '-p', 'WatchdogUSec', sys.argv[2]]\n"
        "subprocess.Popen(['systemctl', 'daemon-reload'])\n"
        "while time.time() < end:\n"
        "    os.kill(pid, signal.SIGSTOP)\n"
        "    if subprocess.check_output(show, text=True).strip() != '0':\n"
        "        sys.exit(0)\n"
        "    os.kill(pid, signal.SIGCONT)\n"
        "    time.sleep(0.05)\n"
        "sys.exit(1)\n",
    )
    watched.ok(f"python3 /root/hang.py {before} {MONITOR}")
    wait(watched, f"test $(systemctl show --value -p MainPID {MONITOR}) != {before}")
    assert "watchdog" in watched.ok(f"journalctl -u {MONITOR} -o cat --no-pager -n 20")
    watched.ok(f"rm -r /run/systemd/system/{MONITOR}.d; systemctl daemon-reload; systemctl restart {MONITOR}")
    cycle(watched)


@pytest.mark.long
def test_each_rule_for_real(watched: Machine) -> None:
    watched.tool_ok("lifetime", "hello", "charged=64M")
    cycle(watched)
    watched.tool_ok("lifetime", "hello", "forever")
    wait(watched, f"test -d '/sys/fs/cgroup{CGROUP}'")
    rests(watched)  # what is stopped while reap is still at work counts as tried, and waits for 15 minutes
    watched.ok(f"systemctl stop --job-mode=ignore-requirements {LAYER}")
    wait(watched, f"test -d '/sys/fs/cgroup{CGROUP}'")
    watched.tool_ok("lifetime", "hello", "boot")
    watched.ok("systemctl start hello; systemctl stop hello")
    watched.tool_ok("lifetime", "hello", "installed")
    time.sleep(20)
    assert watched.run(gone()).code != 0
    watched.tool_ok("lifetime", "hello", "idle=4s charged=64M")
    wait(watched, gone())
    # A file that is taken away by hand emits no signal.
    watched.ok("systemctl start hello; systemctl stop hello; rm /etc/systemd/system/hello.service")
    wait(watched, f"{gone()} && test ! -e /etc/systemd/system/{LAYER}")
    watched.write("/etc/systemd/system/hello.service", SERVICE)
    watched.ok("systemctl daemon-reload")
    watched.tool_ok("enable", "hello")
    watched.tool_ok("lifetime", "hello", "idle=2s")
    cycle(watched)


@pytest.mark.long
def test_what_appears_is_layered_at_once_and_disable_excludes_it(watched: Machine) -> None:
    rests(watched)
    watched.write(CONFIG, "[layering.units]\n'new*.service' = true\n")
    before = watched.manifest()
    # Written by hand: no signal, and no reload but the one that comes with the layer.
    watched.write("/etc/systemd/system/new.service", SERVICE)
    layer = "/etc/systemd/system/system-new.service.slice"
    wait(watched, f"test -e {layer} && test $(systemctl show --value -p Slice new) = system-new.service.slice")
    rests(watched)
    watched.ok("systemctl start new")
    assert watched.services("active")["new.service"].startswith("/system.slice/system-new.service.slice/")
    layered = watched.manifest()
    watched.tool_ok("disable", "--now", "new")
    rests(watched)
    (row,) = watched.json("plan", "new*")["services"]
    assert (row["verdict"], [reason["code"] for reason in row["reasons"]]) == ("refused", ["excluded"])
    assert DISABLED in row["reasons"][0]["sentence"]
    assert watched.json("reap", "--dry-run")["layering"] == []
    plain = watched.manifest()
    assert {path for path in plain if path not in before} == {"/etc/systemd/system/new.service", DISABLED}
    watched.tool_ok("migrate", "--yes", "new")
    watched.tool_ok("rollback", "--now")
    assert watched.manifest() == plain, "a rollback leaves /etc as it was, exclusions included"
    watched.tool_ok("enable", "new")
    assert watched.manifest().keys() == layered.keys() and watched.run(f"test -e {DISABLED}").code != 0
    watched.tool_ok("disable", "new")
    watched.ok(f"systemctl stop new; rm {CONFIG} {DISABLED} /etc/systemd/system/new.service; systemctl daemon-reload")


PACKAGE = """set -e
mkdir -p /root/pkg/DEBIAN /root/pkg/usr/lib/systemd/system
printf '[Service]\\nType=exec\\nExecStart=sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n' \\
    > /root/pkg/usr/lib/systemd/system/parcel.service
printf 'Package: parcel\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@x.example>\\nDescription: x\\n' \\
    > /root/pkg/DEBIAN/control
printf '#!/bin/sh\\nsystemctl daemon-reload\\nsystemctl enable --now parcel.service\\n' > /root/pkg/DEBIAN/postinst
printf '#!/bin/sh\\nsystemctl disable --now parcel.service\\n' > /root/pkg/DEBIAN/prerm
printf '#!/bin/sh\\nsystemctl daemon-reload\\n' > /root/pkg/DEBIAN/postrm
chmod 755 /root/pkg/DEBIAN/p*
dpkg-deb --root-owner-group --build /root/pkg /root/parcel.deb
"""


@pytest.mark.long
@pytest.mark.parametrize("auto", [False, True])
def test_a_package_that_goes_and_comes_back(watched: Machine, auto: bool) -> None:
    """Purged: drained, reported, gone, and the files with it. Installed again: layered if `auto`, plain if not."""
    watched.ok(PACKAGE)
    watched.ok("dpkg --install /root/parcel.deb")
    watched.tool_ok("enable", "--now", "parcel")
    layer = "system-parcel.service.slice"
    assert watched.services("active")["parcel.service"].startswith(f"/system.slice/{layer}/")
    if auto:
        watched.write(CONFIG, "[layering.units]\n'parcel.service' = true\n")
    mark = watched.ok("date +%s")
    watched.ok("DEBIAN_FRONTEND=noninteractive apt-get -qq -y purge parcel")
    wait(watched, f"{gone(f'/system.slice/{layer}')} && test ! -e /etc/systemd/system/{layer}")
    assert [path for path in watched.manifest() if "parcel" in path] == []
    told = watched.ok(f"journalctl --sync; journalctl --since=@{mark} -t cgroup-layering -o cat --no-pager")
    assert f"Removed {layer} (its service is gone from the system)" in told
    rests(watched)
    watched.ok("dpkg --install /root/parcel.deb")
    if auto:
        wait(watched, f"test -e /etc/systemd/system/{layer}")
        rests(watched)
        watched.ok("systemctl restart parcel")
        assert watched.services("active")["parcel.service"].startswith(f"/system.slice/{layer}/")
    else:
        time.sleep(20)
        rests(watched)
        assert watched.tool("is-enabled", "parcel").code == 1
    watched.ok(f"rm -f {CONFIG}; apt-get -qq -y purge parcel")
    wait(watched, f"test ! -e /etc/systemd/system/{layer}")


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_kills_at_random_moments_lose_nothing(watched: Machine) -> None:
    """Monitor and reap are killed, systemd re-executed, the bus restarted; services start and stop meanwhile."""
    for name in ("stays", "goes"):
        watched.write(f"/etc/systemd/system/{name}.service", SERVICE)
    watched.ok("systemctl daemon-reload")
    watched.tool_ok("enable", "stays", "goes")
    watched.tool_ok("lifetime", "goes", "charged=1G")
    watched.ok("systemctl start stays goes")
    watched.write(
        "/root/kills.sh",
        "end=$(($(date +%s) + 150)); n=0\n"
        "while [ $(date +%s) -lt $end ]; do\n"
        "  n=$((n + 1)); systemctl stop goes; sleep $((n % 5)).$((n % 7))\n"
        f"  systemctl kill --signal=KILL {REAP} 2>/dev/null; sleep 0.$((n % 9))\n"
        f"  systemctl kill --signal=KILL {MONITOR}; systemctl reset-failed {MONITOR} {REAP} 2>/dev/null\n"
        f"  systemctl start --no-block {MONITOR}\n"
        "  case $((n % 6)) in 2) systemctl daemon-reexec;; 4) systemctl restart dbus.service;; esac\n"
        # On 252 a start can fail as systemd loses the folder that it has just made.
        "  systemctl start goes || systemctl start goes || exit 1\n"
        "  systemctl is-active --quiet stays && systemctl is-active --quiet goes || exit 2\n"
        "done; echo $n\n",
    )
    print(f"{watched.suite}: {watched.ok('sh /root/kills.sh')} rounds")
    assert watched.services("active")["stays.service"].startswith("/system.slice/system-stays.service.slice/")
    for name in ("stays", "goes"):
        assert watched.tool("is-enabled", name).code == 0
    watched.ok(f"systemctl stop goes; systemctl reset-failed; systemctl start {MONITOR}")
    wait(watched, gone("/system.slice/system-goes.service.slice"))
    assert watched.run(gone("/system.slice/system-stays.service.slice")).code != 0
    cycle(watched)
