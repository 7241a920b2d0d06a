# SPDX-License-Identifier: LGPL-2.1-or-later
"""Domains: nginx and an application behind it, with what they share charged to neither."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vm.machine import GUEST, Machine

pytestmark = pytest.mark.on("forky")

ETC = "/etc/systemd/system"
DOMAIN = "/system.slice/system-web.domain.slice"
FRONT = f"{DOMAIN}/system-web.domain-nginx.service.slice"
BACK = f"{DOMAIN}/system-web.domain-backend.service.slice"
OLD = "/system.slice/system-nginx.service.slice"
HOLDER = "cgroup-layering-hold@web.domain.service"
NAME = "system-web.domain.slice"
SEEN = "/run/web-seen"
CONFIG = "/etc/cgroup-layering/web.toml"
MIB = 1 << 20
BACKEND = """[Service]
Type=exec
User=nobody
ExecStart=/usr/bin/python3 {script} 8081
Restart=no

[Install]
WantedBy=multi-user.target
"""
PROXY = """location /back/ { proxy_pass http://127.0.0.1:8081/; proxy_read_timeout 300s; }
location /files/ { alias /srv/web/; }
"""
FILE = """[hold."web.domain"]
files = ["/srv/web/shared"]
max = "64M"
"""
DECLARED = f"""{FILE}
[[hold."web.domain".tmpfs]]
path = "/run/shared"
size = "32M"
mode = "0755"
from = "/srv/web/seed"

[[hold."web.domain".bpf_maps]]
pin = "/sys/fs/bpf/shared"
type = "array"
key = 4
value = 4096
entries = 2048
"""
BPF = Path(__file__).resolve().parent / "charges" / "bpf_owners.py"


@pytest.fixture(scope="module")
def host(fresh: Machine) -> Machine:
    """A host with nginx as packaged, and a plain application behind it."""
    fresh.push(BPF)
    fresh.ok(f"install -D -m 644 {GUEST}/backend.py /usr/local/lib/web/backend.py")
    fresh.write(f"{ETC}/backend.service", BACKEND.format(script="/usr/local/lib/web/backend.py"))
    fresh.write("/etc/nginx/snippets/back.conf", PROXY)
    line = "server_name _; include snippets/back.conf;"
    fresh.ok(f"sed -i '0,/server_name _;/s,server_name _;,{line},' /etc/nginx/sites-enabled/default")
    fresh.ok("mkdir -p /srv/web && cd /srv/web && for f in shared front back; do head -c 32M /dev/urandom > $f; done")
    fresh.ok("cd /srv/web && mkdir seed && head -c 16M /dev/urandom > seed/cache")
    fresh.ok("cd /srv/web && head -c 160M /dev/zero > big && sync && nginx -t")
    fresh.ok("systemctl daemon-reload && systemctl restart nginx backend")
    assert ask(fresh, "free") == "done"
    return fresh


@pytest.fixture
def web(host: Machine) -> Iterator[Machine]:
    """The host with both services running, plain; whatever a test does to it is undone."""
    host.ok("systemctl restart nginx backend; sync; echo 3 > /proc/sys/vm/drop_caches")
    before = host.manifest()
    yield host
    host.tool("disable", "--now", "nginx", "backend")
    host.ok("systemctl stop run-shared.mount; rm -rf /run/shared /sys/fs/bpf/shared")
    host.tool("domain", "delete", "--force", "web")
    control = "/etc/systemd/system.control /run/systemd/system.control"
    host.ok(f"rm -rf {CONFIG} {control}; systemctl daemon-reload; systemctl reset-failed")
    host.tool("reap", "--force")
    assert host.manifest() == before
    assert host.ok(f"systemctl list-units --all --plain --no-legend '{HOLDER}' run-shared.mount") == ""
    assert host.run("ls -d /var/lib/cgroup-layering /run/cgroup-layering/hold-*").out == ""
    assert host.run(f"ls -d /sys/fs/cgroup{DOMAIN} /sys/fs/cgroup{OLD}").out == ""
    assert host.services("active")["nginx.service"] == "/system.slice/nginx.service"


def ask(machine: Machine, what: str) -> str:
    """What the application says, through nginx."""
    return machine.ok(f"python3 {GUEST}/backend.py get back/{what}")


def serve(machine: Machine, name: str) -> None:
    """Have nginx read a file."""
    assert machine.ok(f"python3 {GUEST}/backend.py get files/{name}") == str(32 * MIB)


def cgroup(machine: Machine, unit: str) -> str:
    return machine.show(unit, "ControlGroup")


def controllers(machine: Machine) -> dict[str, set[str]]:
    """What the domain and the two layers in it share out."""
    return {one: set(machine.cgroup_file(one, "cgroup.subtree_control").split()) for one in (DOMAIN, FRONT, BACK)}


def owners(machine: Machine, *paths: str) -> list[dict[str, int]]:
    """Pages by owner of each file, by a reader that knows nothing of the package."""
    found = json.loads(machine.ok(f"python3 {GUEST}/pagereader.py --json {' '.join(paths)}"))
    return [one["owners"] for one in found]


def node(machine: Machine, name: str, level: str) -> Any:
    """What `status --tree` says of one cgroup."""
    waiting = list(machine.json("status", "--tree")["tree"])
    while waiting:
        one = waiting.pop()
        if (one["name"], one["level"]) == (name, level):
            return one
        waiting += one["children"]
    raise AssertionError(f"{level} {name} is not in the tree")


def together(machine: Machine, *settings: str) -> None:
    """Both services are in the domain, and nothing is left of where they were."""
    machine.tool_ok("domain", "create", "web", *settings)
    machine.tool_ok("domain", "add", "web", "nginx", "backend", "--now")
    assert cgroup(machine, "nginx") == f"{FRONT}/nginx.service"
    assert cgroup(machine, "backend") == f"{BACK}/backend.service"


@pytest.mark.long
def test_services_come_into_a_domain_and_leave_it(web: Machine) -> None:
    """A layered and a plain service, at their next starts; the weights; the way back, byte for byte."""
    web.tool_ok("enable", "--now", "nginx")
    layered = web.manifest()
    web.tool_ok("domain", "create", "web", "MemoryMax=300M")
    plan = web.json("domain", "add", "web", "nginx", "backend", "--dry-run")
    notes = {one["unit"]: [note["sentence"] for note in one["notes"]] for one in plan["services"]}
    assert any(f"leaves {OLD[14:]}, which is charged" in sentence for sentence in notes["nginx.service"])
    assert plan["notes"][0]["code"] == "domain-weight"
    assert "CPUWeight=200 and IOWeight=200" in plan["notes"][0]["sentence"]

    invocation = web.show("nginx", "InvocationID")
    web.tool_ok("domain", "add", "web", "nginx", "backend")
    assert web.show("nginx", "InvocationID") == invocation, "only --now restarts"
    assert cgroup(web, "nginx") == f"{OLD}/nginx.service"
    assert "still runs in" in web.tool_ok("update").err
    web.tool_ok("reap")
    assert cgroup(web, "nginx") == f"{OLD}/nginx.service"
    assert web.json("status", "nginx")["services"][0]["place"] == "pending"

    web.ok("systemctl restart nginx")
    assert cgroup(web, "nginx") == f"{FRONT}/nginx.service"
    assert "its service is in system-web.domain-nginx.service.slice now" in web.tool_ok("reap").err
    web.ok(f"test ! -e /sys/fs/cgroup{OLD} && test ! -e {ETC}/{OLD[14:]}")
    web.tool_ok("domain", "add", "web", "backend", "--now")
    assert ask(web, "free") == "done"
    assert web.cgroup_file(DOMAIN, "memory.max") == str(300 * MIB)
    assert web.cgroup_file(DOMAIN, "cpu.weight") == "200"
    assert web.show("system-web.domain.slice", "DefaultDependencies") == "no"
    assert web.tool("verify").code == 0, web.tool("verify").out
    findings = web.json("doctor")["findings"]
    assert [one for one in findings if one["code"].startswith("drift")] == []

    web.tool_ok("set-property", "nginx", "CPUWeight=300")
    assert web.cgroup_file(DOMAIN, "cpu.weight") == "400", "the sum is kept true"
    web.tool_ok("set-property", "nginx", "CPUWeight=")
    web.ok("rm -rf /etc/systemd/system.control /run/systemd/system.control; systemctl daemon-reload")
    web.tool_ok("update")
    assert web.cgroup_file(DOMAIN, "cpu.weight") == "200"
    assert "Nothing to change" in web.tool_ok("update").err
    files = web.manifest()
    web.tool_ok("reap")
    assert web.manifest() == files

    refused = web.tool("domain", "delete", "web")
    assert refused.code == 1 and "backend.service, nginx.service are in it" in refused.err
    web.tool_ok("domain", "remove", "web", "nginx", "backend")
    refused = web.tool("domain", "delete", "web")
    assert refused.code == 1 and "still runs in it" in refused.err
    web.ok("systemctl restart nginx backend")
    assert cgroup(web, "nginx") == f"{OLD}/nginx.service"
    assert cgroup(web, "backend") == "/system.slice/backend.service"
    web.tool_ok("domain", "delete", "web", "--force")
    assert web.manifest() == layered
    web.ok(f"test ! -e /sys/fs/cgroup{DOMAIN}")


def test_what_is_shared_is_charged_to_neither(web: Machine, everything: bool) -> None:
    """A declared file, tmpfs and bpf map: their owners by readers that know nothing of the package."""
    web.write(CONFIG, DECLARED)
    together(web)
    assert ask(web, "read/srv/web/shared") == str(32 * MIB)
    assert ask(web, "read/run/shared/cache") == str(16 * MIB)
    serve(web, "shared")
    serve(web, "front")
    assert ask(web, "read/srv/web/back") == str(32 * MIB)
    shared, cache, front, back = owners(web, "/srv/web/shared", "/run/shared/cache", "/srv/web/front", "/srv/web/back")
    assert shared == {DOMAIN: 32 * MIB // 4096}
    assert cache == {DOMAIN: 16 * MIB // 4096}
    assert set(front) == {f"{FRONT}/nginx.service"}
    assert set(back) == {f"{BACK}/backend.service"}
    maps = json.loads(web.ok(f"python3 {GUEST}/{BPF.name} /sys/fs/bpf/shared"))["maps"]
    assert [one["owner"] for one in maps if one["name"] == "shared"] == [DOMAIN]
    if not everything:
        return

    domain = node(web, "web", "domain")
    assert 32 * MIB <= domain["own_file_bytes"] <= 34 * MIB
    assert 16 * MIB <= domain["own_shmem_bytes"] <= 17 * MIB
    assert node(web, "nginx.service", "instance")["own_file_bytes"] >= 32 * MIB
    rows = {row["cgroup"]: row for row in web.json("charges")["rows"]}
    assert (rows[DOMAIN]["kind"], rows[DOMAIN]["domain"]) == ("domain", "web")
    assert rows[FRONT]["domain"] == "web"

    web.ok("systemctl restart backend nginx")
    assert ask(web, "read/srv/web/shared") == str(32 * MIB)
    assert owners(web, "/srv/web/shared", "/run/shared/cache") == [shared, cache]
    left = node(web, "backend.service", "layer")
    assert left["own_file_bytes"] >= 32 * MIB, "its own file is its layer's now"
    assert web.tool("verify").code == 0, web.tool("verify").out


@pytest.mark.long
def test_the_limit_holds_for_both_and_pressure_for_what_is_shared(web: Machine) -> None:
    web.write(CONFIG, FILE)
    together(web, "MemoryMax=200M")
    serve(web, "front")
    kept, shared = f"{FRONT}/nginx.service", {DOMAIN: 32 * MIB // 4096}
    before = owners(web, "/srv/web/front")[0]

    # Its own limit: pressure stays where it is made.
    web.ok("systemctl set-property --runtime system-web.domain-backend.service.slice MemoryMax=48M")
    assert ask(web, "read/srv/web/big") == str(160 * MIB)
    assert int(web.cgroup_file(BACK, "memory.current")) <= 48 * MIB
    assert owners(web, "/srv/web/front", "/srv/web/shared") == [before, shared]
    web.ok("systemctl set-property --runtime system-web.domain-backend.service.slice MemoryMax=")

    # The domain's limit: it reaches what is shared, and what of the other one is not protected.
    web.ok("systemctl set-property --runtime system-web.domain-nginx.service.slice MemoryLow=64M")
    web.ok("systemctl set-property --runtime nginx.service MemoryLow=64M")
    for _ in range(2):
        ask(web, "eat/60")
    assert ask(web, "read/srv/web/big") == str(160 * MIB)
    now, common = owners(web, "/srv/web/front", "/srv/web/shared")
    assert now == {kept: sum(before.values())}, "what the other has by itself, and protected, stays"
    assert sum(common.values()) < sum(shared.values()), "what is shared gives way"
    peak = web.run(f"cat /sys/fs/cgroup{DOMAIN}/memory.peak").out
    assert int(peak or 0) <= 200 * MIB and int(web.cgroup_file(DOMAIN, "memory.current")) <= 200 * MIB
    assert "max " in web.cgroup_file(DOMAIN, "memory.events")

    # More than both may have together: someone in the domain is killed, and nobody else.
    others = {unit for unit in web.services("active") if unit not in ("nginx.service", "backend.service")}
    web.run(f"timeout 60 python3 {GUEST}/backend.py get back/eat/150")
    events = dict(line.split() for line in web.cgroup_file(DOMAIN, "memory.events").splitlines())
    assert int(events["oom_kill"]) >= 1
    assert others <= set(web.services("active"))
    web.ok("systemctl reset-failed; systemctl restart nginx backend")


@pytest.mark.long
def test_a_service_cannot_move_its_charges_up(web: Machine) -> None:
    """Neither into its domain nor out of it: not by itself, not by the program, and not even as root by a write."""
    together(web)
    for above in (DOMAIN, FRONT, "/system.slice", "/"):
        assert ask(web, f"join{above}".rstrip("/")) in ("Permission denied", "Operation not permitted")
    assert cgroup(web, "backend") == f"{BACK}/backend.service"
    assert ask(web, "read/srv/web/back") == str(32 * MIB)
    assert set(owners(web, "/srv/web/back")[0]) == {f"{BACK}/backend.service"}
    before = web.manifest()
    for words in (("create", "mine"), ("add", "web", "ssh"), ("remove", "web", "backend"), ("delete", "web")):
        done = web.tool("domain", *words, user="nobody")
        assert done.code == 1 and "Root rights are needed" in done.err
    assert web.manifest() == before
    # A cgroup that shares controllers out takes no processes (cgroup-v2.rst, "No Internal Process Constraint").
    assert "busy" in web.run(f"echo $$ > /sys/fs/cgroup{DOMAIN}/cgroup.procs").err


@pytest.mark.long
def test_who_does_not_come_up_in_a_domain_is_put_back(web: Machine) -> None:
    """The former layer's files are there again, byte for byte, and the service runs in it."""
    check = "ExecStartPre=/bin/sh -c '! grep -q web.domain /proc/self/cgroup'"
    web.write(f"{ETC}/nginx.service.d/picky.conf", f"[Service]\n{check}\n")
    web.ok("systemctl daemon-reload")
    web.tool_ok("enable", "--now", "nginx")
    web.tool_ok("domain", "create", "web")
    before = web.manifest()
    done = web.tool("domain", "add", "web", "nginx", "--now")
    assert done.code == 1 and "its former files are back and it was started as before" in done.err
    assert web.manifest() == before
    assert cgroup(web, "nginx") == f"{OLD}/nginx.service"
    assert web.json("domain", "show", "web")["domains"][0]["services"] == []
    web.ok(f"rm {ETC}/nginx.service.d/picky.conf")
    web.tool_ok("disable", "--now", "nginx")
    web.ok(f"rmdir {ETC}/nginx.service.d && systemctl daemon-reload")


@pytest.mark.long
@pytest.mark.parametrize("way", ["rollback", "disable"])
def test_what_takes_layers_away_takes_them_out_of_domains(web: Machine, way: str) -> None:
    before = web.manifest()
    web.tool_ok("migrate", "--yes", "--now", "nginx", "backend")
    web.tool_ok("domain", "create", "web")
    web.write(CONFIG, DECLARED)
    web.tool_ok("domain", "add", "web", "nginx")
    web.tool_ok("domain", "add", "web", "backend", "--now")
    # nginx still runs in its former layer, backend in the domain.
    web.tool_ok(*([way, "--now"] if way == "rollback" else [way, "--now", "nginx", "backend"]))
    for unit in ("nginx", "backend"):
        assert cgroup(web, unit) == f"/system.slice/{unit}.service"
    assert web.show(HOLDER, "ActiveState") == "inactive"
    assert web.ok("stat -c %s /run/shared/cache") == str(16 * MIB), "what is in a tmpfs isn't taken away"
    refused = web.tool("domain", "delete", "web")
    assert refused.code == 1 and "/run/shared" in refused.err, "too much of it can't be reclaimed"
    assert web.show(NAME, "ActiveState") == "active" and web.run(f"test -e {ETC}/{NAME}").code == 0
    gone = web.tool_ok("domain", "delete", "web", "--force").err
    assert "/run/shared" in gone and "/sys/fs/bpf/shared" in gone
    web.ok(f"systemctl stop run-shared.mount; rm -r /run/shared {CONFIG}")
    assert web.manifest() == before


@pytest.mark.long
@pytest.mark.parametrize("tracking", ["instance", "service"])
def test_a_domains_holder_changes_no_controllers(web: Machine, tracking: str) -> None:
    """Neither of the domain nor of the layers in it: before its holder is there, while it runs, and after."""
    accept = ["--accept-oom-policy-loss"] if tracking == "service" else []
    web.tool_ok("enable", "--tracking", tracking, *accept, "nginx", "backend")
    together(web)
    before = controllers(web)
    assert "memory" in before[DOMAIN]
    assert ("memory" in before[FRONT], "memory" in before[BACK]) == ((tracking == "instance"),) * 2
    web.write(CONFIG, DECLARED)
    web.tool_ok("update")
    folders = " ".join(before)
    look = f"cd /sys/fs/cgroup; for one in {folders}; do cat .$one/cgroup.subtree_control; done > {SEEN}"
    web.write(f"{ETC}/{HOLDER}.d/while.conf", f'[Service]\nExecStartPre=/bin/sh -c "{look}"\n')
    web.ok("systemctl daemon-reload")
    assert controllers(web) == before, "loaded"
    web.ok("systemctl restart nginx backend")
    assert web.show(HOLDER, "SubState") == "exited"
    seen = [set(line.split()) for line in web.ok(f"cat {SEEN}").splitlines()]
    assert dict(zip(before, seen, strict=True)) == before, "while it runs"
    assert controllers(web) == before, "after it"
    assert [set(one) for one in owners(web, "/srv/web/shared", "/run/shared/cache")] == [{DOMAIN}, {DOMAIN}]
    assert web.tool("verify").code == 0, web.tool("verify").out
    web.ok(f"rm -r {CONFIG} {ETC}/{HOLDER}.d {SEEN}")
    web.tool_ok("update")
    assert controllers(web) == before, "gone while the services run"


@pytest.mark.long
def test_what_a_service_leaves_is_rehomed_and_drained(web: Machine) -> None:
    """Its own files are read again into the new layer; the former one is drained and goes at once, with the others."""
    web.tool_ok("enable", "--now", "nginx")
    serve(web, "front")
    web.ok("systemctl restart nginx")
    assert owners(web, "/srv/web/front") == [{OLD: 32 * MIB // 4096}]
    web.tool_ok("domain", "create", "web")
    moved = web.tool_ok("domain", "add", "web", "nginx", "--now", "--rehome")
    assert "Removed system-nginx.service.slice" in moved.err and "Rehomed 1 services" in moved.err
    assert web.run(f"test -e /sys/fs/cgroup{OLD} || test -e {ETC}/{OLD[14:]}").code != 0
    assert cgroup(web, "nginx") == f"{FRONT}/nginx.service"
    assert all(name.startswith(FRONT) for name in owners(web, "/srv/web/front")[0])
    serve(web, "front")
    (found,) = owners(web, "/srv/web/front")
    assert sum(found.values()) == 32 * MIB // 4096 and all(name.startswith(FRONT) for name in found)


@pytest.mark.long
def test_a_domain_is_there_after_a_boot_and_the_program_may_go(web: Machine) -> None:
    web.ok("systemctl enable backend")
    web.write(CONFIG, DECLARED)
    web.tool_ok("domain", "create", "web", "MemoryMax=300M", "--json=short")
    web.tool_ok("domain", "create", "web/inner", "CPUWeight=50")
    web.tool_ok("domain", "add", "web", "nginx")
    web.tool_ok("domain", "add", "web/inner", "backend")
    assert web.reboot() == "running"
    inner = f"{DOMAIN}/system-web.domain-inner.domain.slice/system-web.domain-inner.domain-backend.service.slice"
    assert cgroup(web, "nginx") == f"{FRONT}/nginx.service"
    assert cgroup(web, "backend") == f"{inner}/backend.service"
    assert web.cgroup_file(DOMAIN, "memory.max") == str(300 * MIB)
    assert web.cgroup_file(DOMAIN, "cpu.weight") == "150"
    assert web.show(HOLDER, "ActiveState") == "active"
    cache = owners(web, "/srv/web/shared", "/run/shared/cache")
    assert cache == [{DOMAIN: 32 * MIB // 4096}, {DOMAIN: 16 * MIB // 4096}]
    order = web.ok(f"systemctl show --value -p InactiveExitTimestampMonotonic '{HOLDER}' nginx backend").split()
    assert int(order[0]) < min(int(order[1]), int(order[2]))
    assert web.tool("verify").code == 0, web.tool("verify").out
    said = web.run("DEBIAN_FRONTEND=noninteractive apt-get -qq -y purge cgroup-layering 2>&1").out
    assert "there are layers on this host" in said and "domain delete" in said
    web.ok("systemctl restart nginx backend")
    assert cgroup(web, "nginx") == f"{FRONT}/nginx.service", "layers work without the program"
    assert owners(web, "/run/shared/cache") == cache[1:], "nothing is lost"
    web.ok("DEBIAN_FRONTEND=noninteractive apt-get -qq -y install /root/*.deb")
    web.tool_ok("domain", "remove", "web/inner", "backend", "--now")
    web.tool_ok("domain", "delete", "web/inner")
    web.ok("systemctl disable backend")
