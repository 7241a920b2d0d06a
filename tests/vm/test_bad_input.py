# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bad input and unsuitable hosts, tried as a user would: one sentence, the right exit code, nothing written."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from tests.vm.machine import GUEST, Machine, Result

UNITS = "/etc/systemd/system"
LAYER = "system-nginx.service.slice"
LONG = "a" + "-a" * 60 + ".service"


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


def test_no_root_rights(untouched: Machine) -> None:
    """An ordinary user can look, and can't change."""
    for verb in (("migrate", "--yes"), ("enable", "nginx"), ("disable", "nginx"), ("rollback",), ("verify",)):
        refused(untouched.tool(*verb, user="vagrant"), 1, "Root rights are needed")
    result = untouched.tool("plan", "nginx", user="vagrant")
    assert result.code == 0
    assert "nginx.service" in result.out


@pytest.mark.parametrize(
    ("mounts", "word"),
    [
        ("mount -t tmpfs none /run/systemd", "not booted with systemd"),
        ("mount -t tmpfs none /run/dbus", "Cannot connect to the system bus"),
        ("mount -t tmpfs none /sys/fs/cgroup", "cgroup v2"),
        ("mount -t tmpfs none /sys/fs/cgroup; mkdir /sys/fs/cgroup/unified; "
         "touch /sys/fs/cgroup/unified/cgroup.controllers", "hybrid"),
        ("echo cpu io pids > /run/c; mount --bind /run/c /sys/fs/cgroup/cgroup.controllers; rm /run/c",
         "memory controller"),
    ],
    ids=["no-systemd", "no-bus", "no-cgroup2", "hybrid", "no-memory-controller"],
)  # fmt: skip
def test_unsuitable_hosts(untouched: Machine, mounts: str, word: str) -> None:
    """Each is told apart."""
    refused(untouched.run(private(f"{mounts}; cgroup-layering enable nginx")), 1, word)


def test_units_that_cannot_be_layered(untouched: Machine) -> None:
    """Unknown, wrong kinds, masked, alias, template, transient: a sentence each that names the unit."""
    refused(untouched.tool("enable", "no-such-unit"), 4, "no-such-unit.service")
    refused(untouched.tool("enable", "ssh.socket"), 2, "socket")
    refused(untouched.tool("enable", "a/../b"), 2, "a/../b")
    refused(untouched.tool("enable", "x\ny"), 2)
    refused(untouched.tool("enable"), 2)
    refused(untouched.tool("enable", "--tracking=both", "nginx"), 2)
    refused(untouched.tool("enable", "no-such-*"), 4, "no-such-*")
    refused(untouched.tool("enable", "sshd"), 1, "sshd.service", "alias of ssh.service")
    refused(untouched.tool("enable", "getty@"), 1, "getty@.service is a template")
    refused(untouched.tool("enable", "user@0"), 1, "user@0.service")
    masked = untouched.ok("systemctl list-unit-files --state=masked --no-legend --plain '*.service' | cut -d' ' -f1")
    refused(untouched.tool("enable", masked.split()[0]), 1, "is masked")


def test_a_transient_unit(fresh: Machine) -> None:
    """It has no unit file to come back to."""
    fresh.ok("systemd-run --quiet --unit=passing sleep infinity")
    refused(fresh.tool("enable", "passing"), 1, "passing.service is transient")
    fresh.ok("systemctl stop passing")


@pytest.mark.parametrize(
    ("make", "undo", "word"),
    [
        (f"echo '[Slice]' > {UNITS}/{LAYER}", f"rm {UNITS}/{LAYER}", "was not written by"),
        (f"ln -s /etc/passwd {UNITS}/{LAYER}", f"rm {UNITS}/{LAYER}", "symbolic link"),
        (f"mkdir /tmp/other; ln -s /tmp/other {UNITS}/nginx.service.d", f"rm {UNITS}/nginx.service.d; rmdir /tmp/other",
         "symbolic link"),
        (f"mkdir {UNITS}/nginx.service.d; ln -s /etc/passwd {UNITS}/nginx.service.d/zz-cgroup-layering.conf",
         f"rm -r {UNITS}/nginx.service.d", "symbolic link"),
        (f"mkdir {UNITS}/nginx.service.d; printf '[Service]\\nSlice=a.slice\\n' > {UNITS}/nginx.service.d/zzz.conf; "
         "systemctl daemon-reload", f"rm -r {UNITS}/nginx.service.d; systemctl daemon-reload", "zzz.conf"),
        (f"mkdir {UNITS}/nginx.service.d; echo > {UNITS}/nginx.service.d/zz-cgroup-layering.conf",
         f"rm -r {UNITS}/nginx.service.d", "was not written by"),
    ],
    ids=["foreign-slice", "symlink-slice", "symlink-folder", "symlink-drop-in", "outranked", "foreign-drop-in"],
)  # fmt: skip
def test_what_is_in_the_way(fresh: Machine, make: str, undo: str, word: str) -> None:
    """Foreign files, symlinks and drop-ins that would win: the service is refused, and they stay as they are."""
    fresh.ok(make)
    before = fresh.manifest()
    refused(fresh.tool("enable", "nginx"), 1, "nginx.service", word)
    assert fresh.manifest() == before
    fresh.ok(undo)


def test_a_name_that_gets_too_long(fresh: Machine) -> None:
    """Escaped it would be over systemd's limit, and systemd would ignore it in silence."""
    fresh.write(f"{UNITS}/{LONG}", "[Service]\nExecStart=/usr/bin/sleep infinity\n")
    fresh.ok("systemctl daemon-reload")
    refused(fresh.tool("enable", LONG), 1, LONG, "limit")
    fresh.ok(f"rm {UNITS}/{LONG}; systemctl daemon-reload")


def test_read_only_and_full_file_systems(untouched: Machine) -> None:
    """Before the first change, in one sentence."""
    read_only = f"mount --bind {UNITS} {UNITS} && mount -o remount,bind,ro {UNITS}"
    refused(untouched.run(private(f"{read_only}; cgroup-layering enable nginx")), 1, "ead-only")
    full = (
        f"cp -a {UNITS} /run/copy; mount -t tmpfs -o size=256k none {UNITS}; cp -a /run/copy/. {UNITS}; "
        f"rm -r /run/copy; head -c 1M /dev/zero > {UNITS}/fill 2>/dev/null"
    )
    refused(untouched.run(private(f"{full}; cgroup-layering enable nginx")), 1, "no space left")


def test_no_terminal_and_no_yes(untouched: Machine) -> None:
    """It must not hang."""
    refused(untouched.tool("migrate"), 2, "--yes")


def test_a_bus_that_does_not_answer(untouched: Machine) -> None:
    """Every wait has an end."""
    result = untouched.run(
        "pid=$(systemctl show --value -p MainPID dbus); kill -STOP $pid; "
        "timeout 200 cgroup-layering enable nginx; code=$?; kill -CONT $pid; exit $code"
    )
    refused(result, 1, "did not answer")


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
