# SPDX-License-Identifier: LGPL-2.1-or-later
"""Layers stay true while their units change: edits, packages, revert, aliases, and properties that are set."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from tests.vm.machine import GUEST, Machine

pytestmark = pytest.mark.on("trixie")

UNIT = "followed.service"
LAYER = "system-followed.service.slice"
CGROUP = f"/system.slice/{LAYER}"
INSTANCE = f"{CGROUP}/{UNIT}"
PLAIN = f"/system.slice/{UNIT}"
ETC, RUN = "/etc/systemd/system", "/run/systemd/system"
CONTROL = f"/etc/systemd/system.control/{UNIT}.d"
FILE = f"{ETC}/{UNIT}"
MIB = 1 << 20
TEXT = "[Service]\nExecStart=/usr/bin/sleep infinity\nMemoryMax=64M\nCPUWeight=50\n"


@pytest.fixture
def followed(fresh: Machine) -> Iterator[Machine]:
    """A layered service that runs; nothing of it is left afterwards."""
    fresh.write(FILE, TEXT)
    fresh.ok(f"systemctl daemon-reload && systemctl start {UNIT}")
    fresh.tool_ok("enable", "--now", UNIT)
    assert fresh.show(UNIT, "ControlGroup") == INSTANCE
    yield fresh
    fresh.ok(
        f"systemctl stop {UNIT}; rm -rf {FILE} {FILE}.d {CONTROL} /run/systemd/system.control/*; "
        "systemctl daemon-reload"
    )
    fresh.tool("update")
    fresh.tool("reap", "--force")
    assert fresh.run(f"ls -d {ETC}/*followed* {RUN}/*followed* /sys/fs/cgroup{CGROUP}").out == ""


def limit(machine: Machine, cgroup: str = CGROUP, name: str = "memory.max") -> str:
    return machine.cgroup_file(cgroup, name)


def cases(document: dict[str, object], unit: str = UNIT) -> list[tuple[str, str]]:
    """What an update found and did, of one unit."""
    services = document["services"]
    assert isinstance(services, list)
    return [(one["case"], one["action"]) for one in services if one["was"] == unit]


def nothing_to_do(machine: Machine) -> None:
    before = machine.manifest()
    result = machine.tool_ok("update", UNIT)
    assert "Nothing to change." in result.err, result.err
    assert machine.manifest() == before


@pytest.mark.long
def test_an_edit_reaches_the_live_layer(followed: Machine) -> None:
    invocation = followed.show(UNIT, "InvocationID")
    nothing_to_do(followed)
    followed.write(FILE, TEXT.replace("64M", "96M").replace("Weight=50", "Weight=80"))
    before = followed.manifest()
    result = followed.tool_ok("update", "--dry-run", UNIT)
    assert f"--- {ETC}/{LAYER}" in result.out and "\n+MemoryMax=96M\n" in result.out and "\x1b" not in result.out
    assert followed.manifest() == before and limit(followed) == str(64 * MIB)
    document = followed.json("update")
    assert cases(document) == [("changed", "write")] and document["failed"] == {}
    assert limit(followed) == str(96 * MIB) and limit(followed, name="cpu.weight") == "80"
    # 257 leaves it to the next start to bring a running service itself up to date, which is said.
    assert (limit(followed, INSTANCE) == str(96 * MIB)) != (UNIT in document["pending"])
    assert followed.show(UNIT, "InvocationID") == invocation, "nothing is restarted"
    nothing_to_do(followed)
    followed.ok(f"systemctl set-property {UNIT} MemoryMax=128M")
    followed.tool_ok("update")
    assert limit(followed) == limit(followed, INSTANCE) == str(128 * MIB)
    assert followed.tool("verify", UNIT).code == 0


def deb(machine: Machine, version: str, memory: str) -> str:
    """Build a package in the guest that brings the service; its maintainer scripts reload, as debhelper's do."""
    folder = f"{GUEST}/followed-{version}"
    fields = {"Package": "followed", "Version": version, "Architecture": "all", "Description": "a service"}
    control = "".join(f"{key}: {value}\n" for key, value in {**fields, "Maintainer": "Nobody <x@localhost>"}.items())
    machine.write(f"{folder}/DEBIAN/control", control)
    script = "#!/bin/sh\nset -e\nif [ -d /run/systemd/system ]; then systemctl --system daemon-reload; fi\n"
    machine.write(f"{folder}/DEBIAN/postinst", script)
    machine.write(f"{folder}/DEBIAN/postrm", script)
    machine.write(f"{folder}/DEBIAN/prerm", "#!/bin/sh\nif [ $1 = remove ]; then systemctl stop packaged; fi\n")
    machine.write(f"{folder}/usr/lib/systemd/system/packaged.service", TEXT.replace("64M", memory))
    machine.ok(f"chmod 755 {folder}/DEBIAN/p*; dpkg-deb --root-owner-group --build {folder} >/dev/null")
    return f"{folder}.deb"


@pytest.mark.long
def test_a_package_upgrade_brings_the_layer_along(fresh: Machine) -> None:
    layer = "/system.slice/system-packaged.service.slice"
    first, second = deb(fresh, "1", "64M"), deb(fresh, "2", "80M")
    fresh.ok(f"dpkg -i {first} >/dev/null && systemctl start packaged")
    fresh.tool_ok("enable", "--now", "packaged")
    invocation = fresh.show("packaged", "InvocationID")
    assert limit(fresh, layer) == str(64 * MIB)
    said = fresh.ok(f"dpkg -i {second} 2>&1")
    assert "triggers for cgroup-layering" in said
    assert limit(fresh, layer) == str(80 * MIB), said
    assert fresh.show("packaged", "InvocationID") == invocation
    assert "Nothing to change." in fresh.tool_ok("update").err
    # What can't be brought up to date does not fail dpkg.
    fresh.write(f"{ETC}/packaged.service.d/zzz.conf", "[Service]\nSlice=system.slice\n")
    fresh.ok(f"dpkg -i {first} >/dev/null 2>&1")
    assert fresh.tool("update").code == 1
    fresh.ok(f"rm {ETC}/packaged.service.d/zzz.conf; systemctl daemon-reload")
    fresh.ok("dpkg --purge followed >/dev/null 2>&1")
    assert cases(fresh.json("update"), "packaged.service") == [("gone", "wait")]
    fresh.tool_ok("reap")
    assert fresh.run(f"ls -d {ETC}/*packaged* /sys/fs/cgroup{layer}").out == ""


@pytest.mark.long
def test_revert_is_a_clean_way_out(followed: Machine) -> None:
    followed.ok(f"systemctl revert {UNIT}")
    result = followed.tool_ok("update", "--dry-run")
    assert "+++ /dev/null" in result.out.splitlines()
    document = followed.json("update")
    assert cases(document) == [("reverted", "unlayer")] and UNIT in document["pending"]
    assert followed.run(f"ls -d {ETC}/*followed*").out == FILE + "\n"
    assert limit(followed) == str(64 * MIB), "the layer's limits hold until the instance ends"
    nothing_to_do(followed)
    followed.ok(f"systemctl restart {UNIT}")
    assert followed.show(UNIT, "ControlGroup") == PLAIN and limit(followed, PLAIN) == str(64 * MIB)
    assert cases(followed.json("update")) == [("left", "unlayer")]
    assert followed.run(f"ls -d {RUN}/{LAYER} /sys/fs/cgroup{CGROUP}").out == ""


@pytest.mark.long
def test_properties_in_instance_tracking(followed: Machine) -> None:
    invocation = followed.show(UNIT, "InvocationID")
    (one, two, three) = followed.json("set-property", UNIT, "MemoryMax=96M", "CPUWeight=70", "TasksMax=44")[
        "properties"
    ]
    assert [one["level"], two["level"], three["level"]] == ["layer and service", "layer and service", "service"]
    for cgroup in (CGROUP, INSTANCE):
        assert limit(followed, cgroup) == str(96 * MIB)
        assert limit(followed, cgroup, "cpu.weight") == "70"
    assert limit(followed, INSTANCE, "pids.max") == "44" and limit(followed, CGROUP, "pids.max") == "max"
    assert followed.show(UNIT, "InvocationID") == invocation
    assert followed.run(f"ls /run/systemd/system.control/{shlex.quote(LAYER)}.d").code != 0
    nothing_to_do(followed)
    before = followed.manifest()
    for words, sentence in (
        (("MemoryMax=1G", "CPUWeight=much"), "CPUWeight"),
        (("MemoryMaxx=1G",), "MemoryMaxx"),
        (("CPUWeight=60", "MemoryMax=0"), "MemoryMax"),
        (("TasksMax=55", "Delegate=yes"), "Delegate"),
    ):
        result = followed.tool("set-property", UNIT, *words)
        assert result.code == 1 and sentence in result.err and "Traceback" not in result.err, result.err
        assert followed.manifest() == before
    assert limit(followed) == str(96 * MIB) and limit(followed, INSTANCE, "cpu.weight") == "70"
    # A percentage and a size are two files of systemd's, and the older must not win.
    followed.tool_ok("set-property", UNIT, "MemoryMax=50%")
    assert limit(followed) == limit(followed, INSTANCE) != str(96 * MIB)
    followed.tool_ok("set-property", UNIT, "MemoryMax=72M")
    followed.ok("systemctl daemon-reload")
    assert limit(followed) == limit(followed, INSTANCE) == str(72 * MIB)
    followed.tool_ok("disable", "--now", UNIT)
    assert limit(followed, PLAIN) == str(72 * MIB) and limit(followed, PLAIN, "pids.max") == "44"
    result = followed.tool("set-property", UNIT, "MemoryMax=1G")
    assert result.code == 1 and "systemctl set-property" in result.err


@pytest.mark.long
def test_properties_in_service_tracking(followed: Machine) -> None:
    followed.tool_ok("enable", "--now", "--tracking=service", "--accept-oom-policy-loss", UNIT)
    followed.ok(f"systemctl restart {UNIT}")
    plain = f"test ! -e /sys/fs/cgroup{INSTANCE}/memory.max"
    followed.ok(plain)
    followed.tool_ok("set-property", UNIT, "MemoryMax=96M", "MemoryHigh=90M", "CPUWeight=70", "TasksMax=44")
    followed.ok(plain)
    assert limit(followed) == str(96 * MIB) and limit(followed, name="memory.high") == str(90 * MIB)
    assert limit(followed, name="cpu.weight") == "70" and limit(followed, INSTANCE, "pids.max") == "44"
    assert followed.run(f"ls /run/systemd/system.control/{shlex.quote(LAYER)}.d").code != 0
    assert f"[Service]\nMemoryMax={96 * MIB}\n" in followed.ok(f"cat {CONTROL}/50-MemoryMax.conf") + "\n"
    nothing_to_do(followed)
    followed.tool_ok("set-property", UNIT, "MemoryHigh=", "MemoryMax=50%")
    followed.ok(plain)
    assert limit(followed, name="memory.high") == "max" and limit(followed) != str(96 * MIB)
    followed.tool_ok("set-property", UNIT, "MemoryMax=88M")
    followed.ok("systemctl daemon-reload")
    followed.ok(plain)
    assert limit(followed) == str(88 * MIB)
    before = followed.manifest()
    for words in (("CPUWeight=60", "MemoryMax=0"), ("MemoryAccounting=yes",), ("MemoryMax=1G", "TasksMax=-x")):
        assert followed.tool("set-property", UNIT, *words).code == 1
        assert followed.manifest() == before
    assert limit(followed) == str(88 * MIB) and limit(followed, name="cpu.weight") == "70"
    followed.ok(f"systemctl restart {UNIT}")
    followed.ok(plain)
    assert limit(followed) == str(88 * MIB)
    followed.tool_ok("disable", "--now", UNIT)
    assert limit(followed, PLAIN) == str(88 * MIB) and limit(followed, PLAIN, "pids.max") == "44"


@pytest.mark.long
def test_properties_until_the_next_boot_and_of_a_service_that_is_not_running(followed: Machine) -> None:
    followed.tool_ok("set-property", "--runtime", UNIT, "MemoryMax=96M")
    assert limit(followed) == limit(followed, INSTANCE) == str(96 * MIB)
    assert followed.run(f"ls {CONTROL}").code != 0
    followed.ok(f"ls /run/systemd/system.control/{UNIT}.d/50-MemoryMax.conf")
    followed.ok("rm -r /run/systemd/system.control/*; systemctl daemon-reload")
    followed.tool_ok("update")
    assert limit(followed) == str(64 * MIB)
    followed.tool_ok("enable", "--now", "--tracking=service", "--accept-oom-policy-loss", UNIT)
    followed.ok(f"systemctl stop {UNIT}")
    followed.tool_ok("set-property", UNIT, "MemoryMax=88M")
    result = followed.tool("set-property", "--runtime", UNIT, "MemoryMax=99M")
    assert result.code == 1 and f"{CONTROL}/50-MemoryMax.conf" in result.err
    followed.ok(f"systemctl start {UNIT}")
    followed.ok(f"test ! -e /sys/fs/cgroup{INSTANCE}/memory.max")
    assert limit(followed) == str(88 * MIB)
    followed.tool_ok("migrate", "--yes", "cron")
    followed.tool_ok("rollback")
    assert limit(followed) == str(88 * MIB), "a rollback leaves what the administrator set"


@pytest.mark.long
@pytest.mark.parametrize("tracking", ["instance", "service"])
def test_another_parent(followed: Machine, tracking: str) -> None:
    followed.tool_ok("enable", "--now", f"--tracking={tracking}", "--accept-oom-policy-loss", UNIT)
    followed.ok(f"systemctl restart {UNIT}")
    at = INSTANCE if tracking == "instance" else CGROUP
    followed.write(f"{FILE}.d/10-parent.conf", "[Service]\nSlice=web.slice\n")
    followed.ok("systemctl daemon-reload")
    assert "update" in followed.tool("enable", UNIT).err
    document = followed.json("update")
    assert cases(document) == [("parent", "move")] and UNIT in document["pending"]
    assert followed.show(UNIT, "ControlGroup") == INSTANCE
    followed.ok("systemctl daemon-reload")
    assert limit(followed, at) == str(64 * MIB), "until its next start the old limits hold"
    assert followed.json("update")["written"] == []
    followed.ok(f"systemctl restart {UNIT}")
    new = "/web.slice/web-followed.service.slice"
    assert followed.show(UNIT, "ControlGroup") == f"{new}/{UNIT}"
    assert limit(followed, new) == str(64 * MIB)
    followed.tool_ok("update")
    followed.tool_ok("reap", "--force")
    assert followed.run(f"ls -d {ETC}/{LAYER} {RUN}/{LAYER} /sys/fs/cgroup{CGROUP}").out == ""
    followed.ok(f"rm {FILE}.d/10-parent.conf; systemctl daemon-reload")
    followed.tool_ok("update")
    followed.ok(f"systemctl restart {UNIT}")
    assert followed.show(UNIT, "ControlGroup") == INSTANCE
    followed.tool_ok("disable", "--now", UNIT)
    assert followed.run(f"ls -d {ETC}/*followed*").out == FILE + "\n", "also the folder of the drop-in is gone"


@pytest.mark.long
def test_a_renamed_unit(followed: Machine) -> None:
    followed.tool_ok("lifetime", UNIT, "forever")
    followed.ok(f"systemctl stop {UNIT}; mv {FILE} {ETC}/successor.service; ln -s successor.service {FILE}")
    followed.ok("systemctl daemon-reload; systemctl start successor")
    (one,) = followed.json("update")["services"]
    assert (one["unit"], one["was"], one["action"]) == ("successor.service", UNIT, "move")
    assert followed.run(f"ls -d {ETC}/*followed*").out == FILE + "\n"
    followed.ok("systemctl restart successor")
    layer = "/system.slice/system-successor.service.slice"
    assert followed.show("successor", "ControlGroup") == f"{layer}/successor.service"
    assert limit(followed, layer) == str(64 * MIB)
    assert followed.tool_ok("lifetime", "successor").out == "forever\n"
    followed.ok(f"rm {FILE}; systemctl daemon-reload")
    followed.tool_ok("disable", "--now", "successor")
    followed.ok(f"systemctl stop successor; rm {ETC}/successor.service; systemctl daemon-reload")


@pytest.mark.long
def test_masked_and_without_its_slice_file(followed: Machine) -> None:
    followed.ok(f"mv {FILE} /usr/lib/systemd/system/; systemctl daemon-reload; systemctl mask --quiet {UNIT}")
    assert cases(followed.json("update")) == [("masked", "none")]
    followed.ok(f"systemctl unmask --quiet {UNIT}; mv /usr/lib/systemd/system/{UNIT} {FILE}; systemctl daemon-reload")
    nothing_to_do(followed)
    followed.ok(f"ln -sf /dev/null {ETC}/{LAYER}; systemctl daemon-reload")
    document = followed.json("update")
    assert cases(document) == [("slice-gone", "unlayer")] and UNIT in document["pending"]
    assert limit(followed, INSTANCE) == str(64 * MIB)
    assert followed.run(f"ls -d {FILE}.d").code != 0
    followed.ok(f"rm {ETC}/{LAYER}; systemctl daemon-reload; systemctl restart {UNIT}")
    assert followed.show(UNIT, "ControlGroup") == PLAIN


@pytest.mark.long
def test_revert_in_service_tracking_and_the_timers_service(followed: Machine) -> None:
    """The limits of a live instance are the layer's, so its file waits in /run; the timer takes it away."""
    followed.tool_ok("enable", "--now", "--tracking=service", "--accept-oom-policy-loss", UNIT)
    followed.ok(f"systemctl restart {UNIT}; systemctl revert {UNIT}")
    document = followed.json("update")
    assert cases(document) == [("reverted", "unlayer")]
    assert followed.run(f"ls {ETC}/{LAYER}").code != 0
    assert limit(followed) == str(64 * MIB)
    nothing_to_do(followed)
    followed.ok(f"systemctl restart {UNIT}")
    assert followed.show(UNIT, "ControlGroup") == PLAIN
    followed.ok("systemctl start cgroup-layering-reap.service")
    log = followed.ok("journalctl -u cgroup-layering-reap -n 30 --no-pager")
    assert followed.run(f"ls -d {RUN}/{LAYER} /sys/fs/cgroup{CGROUP}").out == "", log


@pytest.mark.long
def test_files_of_another_release_of_systemd(followed: Machine) -> None:
    followed.tool_ok("enable", "--tracking=service", "--accept-oom-policy-loss", UNIT)
    version = followed.ok("systemctl --version | sed -n '1s/^systemd \\([0-9]*\\).*/\\1/p'")
    slice_file, drop_in = f"{ETC}/{LAYER}", f"{FILE}.d/zz-cgroup-layering.conf"
    assert f"Systemd={version}" in followed.ok(f"cat {slice_file}")
    other, line = ("257", "") if version == "252" else ("252", "MemoryPressureWatch")
    extra = "" if line else "MemoryZSwapMax=infinity\\nMemoryPressureWatch=yes\\n"
    followed.ok(f"sed -i 's/^Systemd=.*/Systemd={other}/' {slice_file}")
    if line:
        followed.ok(f"sed -i '/^MemoryZSwapMax=/d; /^MemoryPressureWatch=/d' {drop_in}")
    else:
        followed.ok(f"sed -i 's/^\\(MemorySwapMax=.*\\)$/\\1\\n{extra.rstrip(chr(92) + 'n')}/' {drop_in}")
    document = followed.json("update")
    assert cases(document) == [("systemd", "write")]
    assert f"Systemd={version}" in followed.ok(f"cat {slice_file}")
    nothing_to_do(followed)
