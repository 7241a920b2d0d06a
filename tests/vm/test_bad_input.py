# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bad input and unsuitable hosts, tried as a user would: one sentence, the right exit code, nothing written."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from tests.vm.machine import GUEST, Machine, Result

pytestmark = pytest.mark.on("bookworm")

UNITS = "/etc/systemd/system"
LONG = "a" + "-a" * 60 + ".service"
MASKED = "never.service"


def refused(result: Result, code: int, *words: str) -> None:
    """A sentence on stderr that has the words, no traceback, nothing on stdout."""
    assert result.code == code, f"exit {result.code}\n{result.out}\n{result.err}"
    assert "Traceback" not in result.err
    assert result.out == ""
    assert result.err.startswith(("cgroup-layering: ", "Usage: ")), result.err
    assert result.err.rstrip().endswith((".", "?")), result.err
    for word in words:
        assert word in result.err, result.err


def private(command: str) -> str:
    """A command with mounts of its own: systemd doesn't see them."""
    return f"unshare --mount sh -c {shlex.quote(command)}"


@pytest.fixture
def untouched(fresh: Machine) -> Iterator[Machine]:
    """Nothing may be written in such a test, and the host must be as healthy as before."""
    before = fresh.manifest()
    yield fresh
    assert fresh.manifest() == before
    assert fresh.ok("systemctl is-system-running --wait") == "running"


@pytest.mark.long
def test_no_root_rights(untouched: Machine) -> None:
    """An ordinary user can look, and can't change."""
    for verb in (("migrate", "--yes"), ("disable", "nginx")):
        refused(untouched.tool(*verb, user="vagrant"), 1, "Root rights are needed")
    result = untouched.tool("plan", "nginx", user="vagrant")
    assert result.code == 0
    assert "nginx.service" in result.out


UNSUITABLE = {
    "mount -t tmpfs none /run/systemd": "not booted with systemd",
    "mount -t tmpfs none /run/dbus": "Cannot connect to the system bus",
    "mount -t tmpfs none /sys/fs/cgroup": "no cgroup v2",
    "mount -t tmpfs none /sys/fs/cgroup; mkdir /sys/fs/cgroup/unified; "
    "touch /sys/fs/cgroup/unified/cgroup.controllers": "hybrid",
    "echo cpu io pids > /run/c; mount --bind /run/c /sys/fs/cgroup/cgroup.controllers; rm /run/c": "memory controller",
}


@pytest.mark.long
def test_unsuitable_hosts(untouched: Machine) -> None:
    """No systemd, no bus, no cgroup v2, a hybrid, no memory controller: each is told apart."""
    for mounts, word in UNSUITABLE.items():
        refused(untouched.run(private(f"{mounts}; cgroup-layering enable nginx")), 1, word)


def test_units_that_cannot_be_layered(fresh: Machine) -> None:
    """Masked, alias, template, transient, of a user, too long a name: a sentence each that names the unit."""
    fresh.write(f"{UNITS}/{LONG}", "[Service]\nExecStart=/usr/bin/sleep infinity\n")
    fresh.ok(
        f"ln -s /dev/null {UNITS}/{MASKED}; systemctl daemon-reload; systemd-run --quiet --unit=passing sleep infinity"
    )
    before = fresh.manifest()
    result = fresh.tool("enable", "sshd", "getty@", "passing", "user@0", MASKED, LONG, "nginx")
    refused(
        result,
        1,
        "sshd.service is an alias of ssh.service",
        "getty@.service is a template",
        "passing.service is transient",
        "user@0.service belongs to a user's session",
        f"{MASKED} is masked",
        f"{LONG} cannot be layered",
    )
    assert fresh.manifest() == before, "nothing is written where one of the units is refused"
    fresh.ok(f"systemctl stop passing; rm {UNITS}/{LONG} {UNITS}/{MASKED}; systemctl daemon-reload")


@pytest.mark.long
def test_units_that_do_not_exist(untouched: Machine) -> None:
    """systemctl's exit code for them."""
    refused(untouched.tool("enable", "no-such-unit", "nginx"), 4, "no-such-unit.service")
    refused(untouched.tool("enable", "ssh.socket"), 2, "socket")


OBSTACLES = {
    "nginx": (f"echo '[Slice]' > {UNITS}/system-nginx.service.slice", "was not written by"),
    "rsyslog": (f"ln -s /etc/passwd {UNITS}/system-rsyslog.service.slice", "symbolic link"),
    "memcached": (f"mkdir /run/other; ln -s /run/other {UNITS}/memcached.service.d", "symbolic link"),
    "cron": (
        f"mkdir {UNITS}/cron.service.d; ln -s /etc/passwd {UNITS}/cron.service.d/zz-cgroup-layering.conf",
        "symbolic link",
    ),
    "polkit": (
        f"mkdir {UNITS}/polkit.service.d; printf '[Service]\\nSlice=a.slice\\n' > {UNITS}/polkit.service.d/zzz.conf",
        "zzz.conf, line 2, sets Slice=",
    ),
    "redis-server": (
        f"mkdir {UNITS}/redis-server.service.d; echo > {UNITS}/redis-server.service.d/zz-cgroup-layering.conf",
        "was not written by",
    ),
}


def test_what_is_in_the_way(fresh: Machine) -> None:
    """Foreign files, symlinks and drop-ins that would win: the services are refused, all stays as it is."""
    fresh.ok("; ".join(make for make, _ in OBSTACLES.values()) + "; systemctl daemon-reload")
    before = fresh.manifest()
    result = fresh.tool("enable", *OBSTACLES)
    refused(result, 1)
    for unit, (_, word) in OBSTACLES.items():
        assert any(f"{unit}.service" in line and word in line for line in result.err.splitlines()), (unit, result.err)
    assert fresh.manifest() == before
    folders = " ".join(f"{UNITS}/{unit}.service.d" for unit in ("cron", "polkit", "redis-server"))
    fresh.ok(f"rm -r {folders} /run/other; rm {UNITS}/memcached.service.d {UNITS}/system-*.service.slice")
    fresh.ok("systemctl daemon-reload")


def test_read_only_and_full_file_systems(untouched: Machine) -> None:
    """Before the first change, in one sentence."""
    read_only = f"mount --bind {UNITS} {UNITS} && mount -o remount,bind,ro {UNITS}"
    refused(untouched.run(private(f"{read_only}; cgroup-layering enable nginx")), 1, "ead-only")
    full = (
        f"cp -a {UNITS} /run/copy; mount -t tmpfs -o size=256k none {UNITS}; cp -a /run/copy/. {UNITS}; "
        f"rm -r /run/copy; head -c 1M /dev/zero > {UNITS}/fill 2>/dev/null"
    )
    refused(untouched.run(private(f"{full}; cgroup-layering enable nginx")), 1, "no space left")


@pytest.mark.long
def test_no_terminal_and_no_yes(untouched: Machine) -> None:
    """It must not hang."""
    refused(untouched.tool("migrate"), 2, "--yes")


@pytest.mark.long
def test_a_bus_that_does_not_answer(untouched: Machine) -> None:
    """Every wait has an end."""
    result = untouched.run(
        "pid=$(systemctl show --value -p MainPID dbus); kill -STOP $pid; "
        "timeout 200 cgroup-layering enable nginx; code=$?; kill -CONT $pid; exit $code"
    )
    refused(result, 1, "did not answer")


@pytest.mark.long
def test_a_service_that_fails_in_its_layer(fresh: Machine) -> None:
    """It is taken out and runs as before; the rest goes on; both halves are listed, and the command fails."""
    fresh.write(
        f"{UNITS}/picky.service",
        "[Service]\nExecStartPre=/bin/sh -c '! grep -q picky.service.slice /proc/self/cgroup'\n"
        "ExecStart=/usr/bin/sleep infinity\n",
    )
    fresh.write(f"{UNITS}/easy.service", "[Service]\nExecStart=/usr/bin/sleep infinity\n")
    fresh.ok("systemctl daemon-reload; systemctl start picky easy")
    before = fresh.manifest()
    result = fresh.tool("enable", "--now", "picky", "easy")
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "picky.service failed to start in its layer" in result.err
    assert "Restarted 1 service: easy.service." in result.err
    assert "1 done, 1 failed." in result.err
    assert fresh.show("picky", "ActiveState") == "active"
    assert fresh.show("picky", "ControlGroup") == "/system.slice/picky.service"
    assert "easy.service.slice" in fresh.show("easy", "ControlGroup")
    assert fresh.ok("find /sys/fs/cgroup -name system-picky.service.slice") == ""
    fresh.tool_ok("disable", "--now", "easy")
    assert fresh.manifest() == before
    fresh.ok(f"systemctl stop picky easy; rm {UNITS}/picky.service {UNITS}/easy.service; systemctl daemon-reload")


@pytest.mark.long
def test_files_below_a_root(fresh: Machine) -> None:
    """--root works on an image's files without D-Bus, and leaves them as they were."""
    fresh.ok("mkdir -p /var/tmp/image/usr/lib /var/tmp/image/etc/systemd /var/tmp/image/run")
    fresh.ok("cp -a /etc/systemd/system /var/tmp/image/etc/systemd/; cp -a /usr/lib/systemd /var/tmp/image/usr/lib/")
    libraries = fresh.ok("ls /usr/lib/*/systemd/libsystemd-shared-*.so").split()[0]
    fresh.ok(f"mkdir -p /var/tmp/image{libraries.rpartition('/')[0]}; cp {libraries} /var/tmp/image{libraries}")
    listing = f"python3 {GUEST}/manifest.py /var/tmp/image"
    before = fresh.ok(listing)
    no_bus = "mount -t tmpfs none /run/dbus; mount -t tmpfs none /run/systemd"
    fresh.ok(private(f"{no_bus}; cgroup-layering migrate --yes --root=/var/tmp/image"))
    drop_in = fresh.ok("cat /var/tmp/image/etc/systemd/system/nginx.service.d/zz-cgroup-layering.conf")
    assert "Slice=system-nginx.service.slice" in drop_in
    assert fresh.ok("cgroup-layering is-enabled --root=/var/tmp/image nginx") == "enabled"
    refused(fresh.tool("enable", "--root=/var/tmp/image", "no-such-unit"), 4, "no-such-unit.service")
    fresh.ok(private(f"{no_bus}; cgroup-layering rollback --root=/var/tmp/image"))
    assert fresh.ok(listing) == before
    fresh.ok("rm -r /var/tmp/image")
