# SPDX-License-Identifier: LGPL-2.1-or-later
"""Persistent resources of a service: made inside the layer, so that no instance pays for them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.machine import GUEST, TOP, Machine

pytestmark = pytest.mark.on("trixie")

UNIT = "keeper.service"
HOLDER = f"cgroup-layering-hold@{UNIT}.service"
LAYER = "/system.slice/system-keeper.service.slice"
INSTANCE = f"{LAYER}/{UNIT}"
ETC = "/etc/systemd/system"
CONFIG = "/etc/cgroup-layering/keeper.toml"
SEEN = "/run/keeper-seen"
MIB = 1 << 20
BOUND = MIB
BPF = TOP / "tests/vm/charges/bpf_owners.py"
SERVICE = """[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/python3 /usr/local/lib/keeper/keeper.py run
[Install]
WantedBy=multi-user.target
"""
WHILE = f"[Service]\nExecStartPre=/bin/sh -c 'cp /sys/fs/cgroup{LAYER}/cgroup.subtree_control {SEEN}'\n"
DECLARED = """[hold."keeper.service"]
files = ["/var/lib/keeper/da*"]
max = "128M"
{extra}
[[hold."keeper.service".tmpfs]]
path = "/run/keeper"
size = "64M"
mode = "0750"
owner = "root:adm"
from = "/var/lib/keeper/seed"

[[hold."keeper.service".bpf_maps]]
pin = "/sys/fs/bpf/keeper"
type = "array"
key = 4
value = 4096
entries = {entries}
"""


def declare(machine: Machine, extra: str = "", entries: int = 4096) -> None:
    machine.write(CONFIG, DECLARED.format(extra=extra, entries=entries))


def forget(machine: Machine) -> None:
    """The service is stopped, and nothing of it is left in memory."""
    machine.ok(
        f"systemctl stop {UNIT} run-keeper.mount; rm -rf /run/keeper /sys/fs/bpf/keeper; sync; "
        "echo 3 > /proc/sys/vm/drop_caches"
    )


def charged(machine: Machine, cgroup: str = INSTANCE) -> int:
    # The service says that it is ready before it becomes a sleep, and is charged 7 MB of Python until then.
    machine.ok(
        f"for n in $(seq 300); do pgrep -x sleep -u 0 | grep -qx $(systemctl show --value -p MainPID {UNIT}) "
        "&& exit 0; sleep 0.1; done; exit 1"
    )
    return int(machine.cgroup_file(cgroup, "memory.current"))


def kept(machine: Machine) -> int:
    """What the layer keeps, by the kernel's own counters: page cache with tmpfs in it, and bpf maps."""
    stat = dict(line.split() for line in machine.cgroup_file(LAYER, "memory.stat").splitlines())
    return int(stat["file"]) + int(stat["vmalloc"])


def controllers(machine: Machine) -> str:
    return machine.cgroup_file(LAYER, "cgroup.subtree_control")


@pytest.fixture(scope="module")
def host(fresh: Machine) -> Machine:
    """A host with the service, plain, and its files, none of them in memory."""
    fresh.push(TOP / "tests/vm/guest/keeper.py")
    fresh.push(BPF)
    fresh.ok(f"install -D {GUEST}/keeper.py /usr/local/lib/keeper/keeper.py")
    fresh.write(f"{ETC}/{UNIT}", SERVICE)
    fresh.ok(f"systemctl daemon-reload && python3 {GUEST}/keeper.py setup")
    return fresh


@pytest.fixture
def keeper(host: Machine) -> Iterator[Machine]:
    """The host with the service stopped; whatever a test does to it is undone."""
    forget(host)
    before = host.manifest()
    yield host
    host.tool("disable", "--now", UNIT)
    forget(host)
    host.ok(f"rm -rf {CONFIG} {ETC}/{HOLDER}.d {SEEN}; systemctl daemon-reload; systemctl reset-failed")
    host.tool("reap", "--force")
    assert host.manifest() == before
    assert host.ok(f"systemctl list-units --all --plain --no-legend '{HOLDER}' run-keeper.mount") == ""
    assert host.run("ls -d /var/lib/cgroup-layering /run/cgroup-layering/hold-* /run/keeper").out == ""


@pytest.mark.long
def test_first_and_later_instances_are_charged_alike(keeper: Machine) -> None:
    """Without the declaration they differ by more than 100 MB in `instance` tracking, with it by less than 1 MiB."""
    keeper.tool_ok("enable", UNIT)
    figures, whole = [], []
    for _ in range(11):
        keeper.ok(f"systemctl restart {UNIT}")
        figures.append(charged(keeper))
        whole.append(kept(keeper))
    print(f"without a declaration: instances {figures}; layer {whole}")
    plain = figures[0] - max(figures[1:])
    assert plain > 100_000_000
    assert max(whole) - min(whole) <= max(whole) * 0.02
    forget(keeper)
    declare(keeper)
    updated = keeper.tool_ok("update").err
    assert "What is declared for keeper.service in the configuration has changed." in updated
    assert not keeper.tool("verify", UNIT).code, "nothing is promised before the first start"
    figures, whole = [], []
    for _ in range(11):
        keeper.ok(f"systemctl restart {UNIT}")
        figures.append(charged(keeper))
        whole.append(kept(keeper))
        if len(figures) == 1:
            assert "no later instance was looked at yet" in keeper.tool_ok("verify", UNIT).err
    print(f"instances {figures}, without a declaration {plain} apart; layer {whole}")
    assert max(figures) - min(figures) <= max(figures) * 0.02 + BOUND
    assert max(whole) - min(whole) <= max(whole) * 0.02
    said = keeper.tool_ok("verify", UNIT)
    assert "first and later instances" in said.err and "later." in said.err
    owners = json.loads(keeper.ok(f"python3 {GUEST}/pagereader.py --json /var/lib/keeper/data /run/keeper/cache"))
    assert [set(one["owners"]) for one in owners] == [{LAYER}, {LAYER}]
    assert [sum(one["owners"].values()) for one in owners] == [64 * MIB // 4096, 32 * MIB // 4096]
    maps = json.loads(keeper.ok(f"python3 {GUEST}/{BPF.name} /sys/fs/bpf/keeper"))["maps"]
    assert [one["owner"] for one in maps if "/sys/fs/bpf/keeper" in one["pins"]] == [LAYER]
    assert keeper.ok("stat -c %a:%U:%G /run/keeper") == "750:root:adm"


@pytest.mark.long
@pytest.mark.parametrize("tracking", ["instance", "service"])
def test_the_layers_controllers_are_the_same_before_while_and_after(keeper: Machine, tracking: str) -> None:
    accept = ["--accept-oom-policy-loss"] if tracking == "service" else []
    keeper.tool_ok("enable", "--tracking", tracking, *accept, UNIT)
    keeper.ok(f"systemctl start {UNIT}")
    before = controllers(keeper)
    assert ("memory" in before.split()) is (tracking == "instance")
    declare(keeper)
    keeper.tool_ok("update")
    keeper.write(f"{ETC}/{HOLDER}.d/while.conf", WHILE)
    keeper.ok("systemctl daemon-reload")
    assert controllers(keeper) == before, "loaded"
    keeper.ok(f"systemctl restart {UNIT}")
    assert keeper.ok(f"cat {SEEN}") == before, "while the holder runs"
    assert keeper.show(HOLDER, "SubState") == "exited"
    assert controllers(keeper) == before, "after it"
    page = " ".join((TOP / "docs/reference/cgroup-layering.toml.5.md").read_text().split())
    (stated,) = re.findall(r"an exposure of ([0-9.]+) at most", page)
    told = keeper.ok(f"systemd-analyze security --no-pager '{HOLDER}' | tail -n 1")
    print(f"{keeper.suite}: {told}")
    assert float(told.split(":")[1].split()[0]) <= float(stated), told
    keeper.ok(f"systemctl daemon-reload; systemctl stop {UNIT}; systemctl start {UNIT}")
    assert controllers(keeper) == before
    assert keeper.tool("verify", UNIT).code == 0
    keeper.ok(f"rm {CONFIG}")
    keeper.tool_ok("update")
    assert controllers(keeper) == before, "gone while the service runs"
    assert keeper.show(UNIT, "ActiveState") == "active"
    assert keeper.run(f"ls {ETC}/{HOLDER} {ETC}/run-keeper.mount").out == ""


@pytest.mark.long
def test_a_holder_that_fails(keeper: Machine) -> None:
    """The service starts all the same, unless the declaration says `required`; the pinned map is left as it is."""
    keeper.ok("bpftool map create /sys/fs/bpf/keeper type array key 4 value 4096 entries 4096 name mine")
    declare(keeper, entries=2048)
    keeper.tool_ok("enable", UNIT)
    keeper.ok(f"systemctl start {UNIT}")
    assert keeper.show(HOLDER, "ActiveState") == "failed"
    assert int(keeper.ok("stat -c %s /run/keeper/cache")) == 32 * MIB, "the others are made"
    reason = "/sys/fs/bpf/keeper is there already with entries 4096 instead of 2048"
    assert reason in keeper.tool_ok("status", UNIT).out
    assert reason in keeper.ok(f"journalctl -b -u '{HOLDER}' -o cat")
    assert keeper.tool("verify", UNIT).code == 1
    assert json.loads(keeper.ok("bpftool -j map show pinned /sys/fs/bpf/keeper"))["max_entries"] == 4096
    declare(keeper, extra="required = true", entries=2048)
    keeper.tool_ok("update")
    assert keeper.run(f"systemctl restart {UNIT}").code != 0
    assert keeper.show(UNIT, "ActiveState") in ("inactive", "failed")
    keeper.ok("rm /sys/fs/bpf/keeper")
    keeper.ok(f"systemctl start {UNIT}")
    assert keeper.show(HOLDER, "ActiveState") == "active"
    keeper.tool_ok("disable", UNIT)
    assert keeper.show(UNIT, "ActiveState") == "active", "the holder ends, the service that required it does not"
    assert keeper.show(HOLDER, "LoadState") == "not-found"


@pytest.mark.long
def test_after_a_reboot_the_holder_comes_first(keeper: Machine) -> None:
    """What was in memory at the stop is loaded again, and no more; contents of the tmpfs come from the source."""
    keeper.ok("head -c 64M /var/lib/keeper/data > /var/lib/keeper/data2; sync")
    keeper.ok("echo 3 > /proc/sys/vm/drop_caches")
    declare(keeper)
    keeper.tool_ok("enable", UNIT)
    keeper.ok(f"systemctl enable {UNIT}; systemctl start {UNIT}")
    # Without a record all is loaded, which is as much as `max`; what goes from memory is not wanted again.
    keeper.ok("python3 -c 'import os; os.posix_fadvise(os.open(\"/var/lib/keeper/data2\", 0), 0, 0, 4)'")
    assert keeper.reboot() in ("running", "degraded")
    assert charged(keeper) < 8 * MIB
    assert keeper.tool("verify", "-v", UNIT).code == 0
    owners = json.loads(keeper.ok(f"python3 {GUEST}/pagereader.py --json /var/lib/keeper/data /var/lib/keeper/data2"))
    assert owners[0]["owners"] == {LAYER: 64 * MIB // 4096}
    assert not owners[1]["owners"]
    order = keeper.ok(f"systemctl show --value -p InactiveExitTimestampMonotonic {UNIT} '{HOLDER}'").split()
    assert int(order[0]) > int(order[1])
    keeper.ok(f"systemctl disable {UNIT}; rm /var/lib/keeper/data2")


@pytest.mark.long
def test_rollback_and_a_try_leave_nothing(keeper: Machine) -> None:
    before = keeper.manifest()
    declare(keeper)
    with_config = keeper.manifest()
    keeper.ok(f"systemctl start {UNIT}")
    keeper.tool_ok("migrate", "--yes", "--now", UNIT)
    assert keeper.show(HOLDER, "ActiveState") == "active"
    keeper.tool_ok("rollback", "--now")
    assert keeper.manifest() == with_config
    assert keeper.show(HOLDER, "LoadState") == "not-found"
    # What the layer was charged is its parent's now, and a map can't move.
    forget(keeper)
    keeper.tool_ok("migrate", "--yes", "--now", "--try=600", "--no-block", UNIT)
    keeper.ok(f"systemctl start {UNIT}")
    assert keeper.ok(f"ls '/run/systemd/system/{HOLDER}'")
    keeper.tool_ok("confirm")
    assert keeper.show(HOLDER, "FragmentPath") == f"{ETC}/{HOLDER}"
    assert keeper.tool("verify", UNIT).code == 0
    keeper.tool_ok("rollback", "--now")
    assert keeper.manifest() == with_config
    keeper.tool("migrate", "--yes", "--now", "--try=5", UNIT)
    assert keeper.manifest() == with_config
    assert keeper.show(HOLDER, "LoadState") == "not-found"
    assert keeper.show(UNIT, "ControlGroup") == f"/system.slice/{UNIT}"
    keeper.ok(f"rm {CONFIG}")
    assert keeper.manifest() == before


BAD = """[hold."a.service"]
maximum = 1
[hold."b.service"]
tmpfs = [{ path = "/etc/b", size = "1M" }]
[hold."c.service"]
tmpfs = [{ path = "/var/run/c", size = "1M" }]
[hold."d.service"]
tmpfs = [{ path = "/run/d", size = "0" }]
[hold."e.service"]
bpf_maps = [{ pin = "/sys/fs/bpf/e", type = "hash", key = -4, value = 4, entries = 4 }]
[hold."f.service"]
tmpfs = [{ path = "/run/f", size = "64G" }]
[[hold."g.service".bpf_maps]]
pin = "/sys/fs/bpf/g"
type = "hash"
key = 4
value = 4
entries = 4
[[hold."g.service".bpf_maps]]
pin = "/sys/fs/bpf/g"
type = "hash"
key = 4
value = 4
entries = 4
[hold."h.service"]
files = ["/var/lib/many/*"]
max = "1M"
[hold."i.service"]
tmpfs = [{ path = "/run/g", size = "1M" }]
[hold."j.service"]
tmpfs = [{ path = "/run/g", size = "1M" }]
[hold."a/b/c/d/e.domain"]
tmpfs = [{ path = "/run/deep", size = "1M" }]
[hold."web/web.domain"]
tmpfs = [{ path = "/run/cycle", size = "1M" }]
"""
SAID = {
    "a": (2, "'maximum' is not known"),
    "b": (4, "/etc/b is outside the places"),
    "c": (6, "/var/run is a symbolic link"),
    "d": (8, "more than 0 bytes"),
    "e": (10, "takes a number"),
    "f": (12, "more than this host's memory"),
    "g": (20, "declared twice"),
    "h": (26, "matches more than 10000 files"),
    "j": (31, "it is i.service's already"),
}
OF_DOMAINS = {32: "it is 5 domains deep, and 4 are the most", 34: "a domain can't be inside one of its own name"}


@pytest.mark.long
def test_bad_declarations_are_said_and_spoil_nothing_else(keeper: Machine) -> None:
    names = [f"{name}.service" for name in SAID]
    for name in names:
        keeper.write(f"{ETC}/{name}", "[Service]\nExecStart=/usr/bin/sleep infinity\n")
    keeper.ok("systemctl daemon-reload; mkdir /var/lib/many; cd /var/lib/many; seq 20000 | xargs touch")
    bad = str(Path(CONFIG).with_name("bad.toml"))
    keeper.write(bad, BAD)
    declare(keeper)
    plan = keeper.json("plan", UNIT, *names)
    notes = {one["unit"]: [note["sentence"] for note in one["notes"]] for one in plan["services"]}
    for name, (line, text) in SAID.items():
        assert any(f"{bad}:{line}: " in said and text in said for said in notes[f"{name}.service"]), (name, notes)
    keeper.tool_ok("enable", UNIT, "a.service")
    keeper.ok(f"systemctl start {UNIT}")
    assert keeper.tool("verify", UNIT).code == 0
    broken = keeper.json("verify", "a.service")["checks"]
    assert [one["promise"] for one in broken if not one["kept"]] == ["declaration"]
    assert f"{bad}:2: " in keeper.tool_ok("status", "a.service").out
    told = keeper.tool_ok("status").err
    assert f"{bad}:4: " in told, "b.service has no layer"
    assert "declared for i.service, which has no layer" in told
    broken = {one["actual"] for one in keeper.json("verify")["checks"] if not one["kept"]}
    for line, text in OF_DOMAINS.items():
        for sentences in (told.splitlines(), broken):
            assert any(f"{bad}:{line}: " in one and text in one for one in sentences), (line, sentences)
    keeper.tool_ok("disable", "a.service")
    keeper.ok(f"rm -r /var/lib/many {bad} {shlex.join(f'{ETC}/{name}' for name in names)}; systemctl daemon-reload")


@pytest.mark.long
def test_strays_on_the_tmpfs_are_made_anew_and_its_size_follows(keeper: Machine) -> None:
    declare(keeper)
    keeper.tool_ok("enable", UNIT)
    keeper.ok(
        f"systemctl start {UNIT} && head -c 1M /dev/urandom > /run/keeper/stray && chown nobody /run/keeper/stray"
    )
    before = keeper.ok("sha256sum /run/keeper/stray")
    result = keeper.tool("verify", UNIT)
    assert result.code == 1 and "256 pages charged elsewhere" in result.out
    text = DECLARED.format(extra="", entries=4096).replace('size = "64M"', 'size = "96M"\nremake = true')
    keeper.write(CONFIG, text)
    keeper.tool_ok("update")
    keeper.ok(f"systemctl restart {UNIT}")
    assert keeper.tool("verify", UNIT).code == 0
    (one,) = json.loads(keeper.ok(f"python3 {GUEST}/pagereader.py --json /run/keeper/stray"))
    assert one["owners"] == {LAYER: 256}
    assert keeper.ok("sha256sum /run/keeper/stray") == before
    assert keeper.ok("stat -c %U /run/keeper/stray") == "nobody"
    assert keeper.ok("findmnt -bno SIZE /run/keeper") == str(96 * MIB)


@pytest.mark.long
def test_a_purged_package_leaves_a_service_that_starts(keeper: Machine) -> None:
    """Layers and holders stay without the program, as its page says; no service waits for what can't run any more."""
    declare(keeper, extra="required = true")
    keeper.tool_ok("enable", UNIT)
    keeper.ok(f"systemctl start {UNIT}; systemctl restart {UNIT}; test -d /var/lib/cgroup-layering")
    package = keeper.ok("ls /root/cgroup-layering_*.deb")
    keeper.ok("DEBIAN_FRONTEND=noninteractive dpkg --purge cgroup-layering")
    assert keeper.run("ls /var/lib/cgroup-layering").code != 0
    keeper.ok(f"systemctl restart {UNIT}")
    assert keeper.show(UNIT, "ActiveState") == "active"
    assert keeper.show(HOLDER, "ConditionResult") == "no"
    keeper.ok(f"DEBIAN_FRONTEND=noninteractive dpkg -i {package}")


SHARED = """[hold."shared.domain"]
files = ["/var/lib/keeper/data"]
max = "128M"

[[hold."shared.domain".tmpfs]]
path = "/run/shared"
size = "64M"
from = "/var/lib/keeper/seed"
"""
READER = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/cat /var/lib/keeper/data /run/shared/cache\n"


@pytest.mark.long
def test_what_a_domain_holds_is_charged_to_neither_of_its_services(keeper: Machine) -> None:
    domain, holder = "/system.slice/system-shared.domain.slice", "cgroup-layering-hold@shared.domain.service"
    units = ["one.service", "two.service"]
    for unit in units:
        keeper.write(f"{ETC}/{unit}", f"{READER}StandardOutput=null\n")
    keeper.write(CONFIG, SHARED)
    keeper.ok("systemctl daemon-reload")
    keeper.tool_ok("domain", "create", "shared")
    keeper.tool_ok("domain", "add", "shared", *units)
    keeper.ok(f"systemctl start {' '.join(units)}")
    assert keeper.show(holder, "ActiveState") == "active"
    owners = json.loads(keeper.ok(f"python3 {GUEST}/pagereader.py --json /var/lib/keeper/data /run/shared/cache"))
    assert [one["owners"] for one in owners] == [{domain: 64 * MIB // 4096}, {domain: 32 * MIB // 4096}]
    order = keeper.ok(f"systemctl show --value -p InactiveExitTimestampMonotonic '{holder}' {' '.join(units)}").split()
    assert int(order[0]) < min(int(order[1]), int(order[2]))
    assert keeper.tool("verify").code == 0
    entered = keeper.show(holder, "ActiveEnterTimestampMonotonic")
    keeper.ok("systemctl restart one.service")
    assert keeper.show(holder, "ActiveEnterTimestampMonotonic") == entered, "the other one still needs it"
    keeper.ok("systemctl stop one.service two.service")
    shown = f"systemctl show --value -p ActiveState '{holder}'"
    keeper.ok(f'timeout 90 sh -c "until [ \\"\\$({shown})\\" = inactive ]; do sleep 1; done"')
    keeper.tool_ok("domain", "remove", "shared", *units)
    keeper.tool_ok("domain", "delete", "shared", "--force")
    assert keeper.run(f"ls {ETC}/{holder} {ETC}/run-shared.mount").out == ""
    assert keeper.run("cgroup-layering is-enabled one two").out.split() == ["disabled", "disabled"]
    keeper.ok(f"systemctl stop run-shared.mount; rm -rf /run/shared {ETC}/one.service {ETC}/two.service {CONFIG}")
    keeper.ok("systemctl daemon-reload")
