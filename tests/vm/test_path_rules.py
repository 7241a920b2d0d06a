# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules keyed on cgroups: that they match, that plan finds them, and what becomes of them in a layer."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vm.machine import Machine

pytestmark = pytest.mark.on("forky")

TALKER = """[Service]
ExecStart=/bin/bash -c 'while :; do echo x 2>/dev/null >/dev/udp/127.0.0.1/9; sleep 0.1; done'
"""
PLAIN = "system.slice/talker.service"
LAYER = "system.slice/system-talker.service.slice"
RULES = f"""table inet fw {{
    counter sent {{ }}
    counter above {{ }}
    counter own {{ }}
    counter layer {{ }}
    chain out {{
        type filter hook output priority 0;
        udp dport 9 counter name sent
        udp dport 9 socket cgroupv2 level 1 "system.slice" counter name above
        udp dport 9 socket cgroupv2 level 2 "{PLAIN}" counter name own
    }}
}}
"""
PROGRAM = """
__attribute__((section("cgroup_skb/egress"), used)) int pass_all(void *ctx) { return 1; }
char _license[] __attribute__((section("license"), used)) = "GPL";
"""


@pytest.fixture
def talker(fresh: Machine) -> Iterator[Machine]:
    """A plain service that sends packets to loopback; afterwards neither it, a layer of it nor a rule is left."""
    fresh.write("/etc/systemd/system/talker.service", TALKER)
    fresh.ok("systemctl daemon-reload && systemctl start talker")
    yield fresh
    fresh.ok(
        "rm -rf /etc/systemd/system/talker.service.d /etc/systemd/system/system-talker.service.slice; "
        "systemctl daemon-reload; systemctl stop talker; systemctl stop system-talker.service.slice; "
        "rm -f /etc/systemd/system/talker.service; systemctl daemon-reload; nft flush ruleset; "
        f"test ! -e /sys/fs/cgroup/{LAYER}"
    )


def counted(machine: Machine) -> dict[str, int]:
    """Packets by counter."""
    listing = json.loads(machine.ok("nft -j list counters"))["nftables"]
    return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listing if "counter" in entry}


def growing(machine: Machine) -> set[str]:
    """The counters that packets of the service arrive at now."""
    before = counted(machine)
    deadline = time.monotonic() + 60
    while (after := counted(machine))["sent"] < before["sent"] + 5:
        assert time.monotonic() < deadline, f"no packets: {before}, {after}"
        time.sleep(0.5)
    return {name for name, count in after.items() if count > before[name]}


def planned(machine: Machine, *words: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """What plan says about the service, and its notes on the host."""
    document = machine.json("plan", "talker", *words)
    return document["services"][0], document["notes"]


def refused(machine: Machine) -> str:
    """The sentence with which plan refuses the service on account of a rule."""
    service, _ = planned(machine)
    assert service["verdict"] == "refused", service
    assert [reason["code"] for reason in service["reasons"]] == ["path-rule"]
    return str(service["reasons"][0]["sentence"])


@pytest.mark.long
def test_a_firewall_rule_that_would_stop_matching(talker: Machine) -> None:
    """Refused, and rightly so: with --ignore-path-rules the rule stops matching. One on the layer takes its place."""
    talker.write("/root/fw.nft", RULES)
    talker.ok("nft -f /root/fw.nft")
    assert growing(talker) == {"sent", "above", "own"}
    handle = re.search(r"counter name \"?own\"? # handle (\d+)", talker.ok("nft -a list ruleset"))
    assert handle is not None

    by_unit = {service["unit"]: service for service in talker.json("plan", "talker", "cron")["services"]}
    assert by_unit["cron.service"]["verdict"] != "refused" and not by_unit["cron.service"]["notes"]
    sentence = by_unit["talker.service"]["reasons"][0]["sentence"]
    assert by_unit["talker.service"]["reasons"][0]["code"] == "path-rule"
    assert f"table inet fw, chain out, handle {handle[1]}" in sentence
    assert f'socket cgroupv2 level 2 "{PLAIN}"' in sentence and f"/{LAYER}" in sentence
    before = talker.manifest()
    result = talker.tool("enable", "--now", "talker")
    assert result.code == 1 and "--ignore-path-rules" in result.err
    assert talker.manifest() == before

    result = talker.tool_ok("enable", "--ignore-path-rules", "talker")
    assert "note (path-rule)" in result.err and f"handle {handle[1]}" in result.err
    # The layer's cgroup can be there first, so that there is no moment without a rule.
    talker.ok(f"systemctl start {LAYER.rpartition('/')[2]}")
    talker.ok(f"nft add rule inet fw out udp dport 9 socket cgroupv2 level 2 '\"{LAYER}\"' counter name layer")
    assert growing(talker) == {"sent", "above", "own"}
    talker.ok("systemctl restart talker")
    assert talker.show("talker", "ControlGroup") == f"/{LAYER}/talker.service"
    assert growing(talker) == {"sent", "above", "layer"}
    talker.ok("systemctl restart talker")
    assert growing(talker) == {"sent", "above", "layer"}, "the layer's rule holds over restarts"
    service, notes = planned(talker)
    assert service["verdict"] == "layered" and service["notes"] == []
    assert [note["code"] for note in notes] == ["path-rule-unclear"], "nft knows the former cgroup by its number alone"


@pytest.mark.long
def test_a_rule_at_the_level_of_the_layered_service(talker: Machine) -> None:
    """A rule for all but one cgroup one level deeper does not concern the plain service; it would the layered one."""
    rules = RULES.replace(f'level 2 "{PLAIN}"', 'level 3 != "system.slice/cron.service/inside"')
    talker.ok("mkdir /sys/fs/cgroup/system.slice/cron.service/inside")
    talker.write("/root/fw.nft", rules)
    talker.ok("nft -f /root/fw.nft")
    assert growing(talker) == {"sent", "above"}
    assert "start matching" in refused(talker)
    talker.tool_ok("enable", "--now", "--ignore-path-rules", "talker")
    assert growing(talker) == {"sent", "above", "own"}
    talker.ok("rmdir /sys/fs/cgroup/system.slice/cron.service/inside")


@pytest.mark.long
def test_sets_maps_and_a_set_that_systemd_fills(talker: Machine) -> None:
    """Members of sets and maps count; NFTSet= puts in the service's own cgroup, so the rule's level decides."""
    talker.ok("nft add table inet fw; nft add chain inet fw out '{ type filter hook output priority 0; }'")
    talker.ok(
        "nft add set inet fw named '{ type cgroupsv2; }'; nft add map inet fw verdicts '{ type cgroupsv2 : verdict; }'"
    )
    talker.ok("nft add counter inet fw sent; nft add counter inet fw own")
    talker.ok("nft add rule inet fw out udp dport 9 counter name sent")
    talker.ok("nft add rule inet fw out udp dport 9 socket cgroupv2 level 2 @named counter name own")
    service, notes = planned(talker)
    assert service["verdict"] == "layered" and "the set is empty now" in notes[0]["sentence"]
    talker.ok(f"nft add element inet fw named '{{ \"{PLAIN}\" }}'")
    assert growing(talker) == {"sent", "own"}
    assert "level 2 @named" in refused(talker)
    talker.ok("nft flush set inet fw named")

    talker.ok("nft add rule inet fw out socket cgroupv2 level 2 vmap @verdicts")
    talker.ok(f"nft add element inet fw verdicts '{{ \"{PLAIN}\" : accept }}'")
    assert "vmap @verdicts" in refused(talker)
    talker.ok("nft flush map inet fw verdicts")
    talker.ok(f"nft add rule inet fw out socket cgroupv2 level 2 . udp dport '{{ \"{PLAIN}\" . 9 }}' accept")
    assert "level 2 . udp dport" in refused(talker)

    talker.ok("nft flush chain inet fw out")
    talker.ok("nft add rule inet fw out udp dport 9 counter name sent")
    talker.ok("nft add rule inet fw out udp dport 9 socket cgroupv2 level 2 @named counter name own")
    if int(talker.ok("systemctl --version").split()[1]) < 255:
        return
    talker.write("/etc/systemd/system/talker.service", f"{TALKER}NFTSet=cgroup:inet:fw:named\n")
    talker.ok("systemctl daemon-reload; systemctl restart talker")
    assert growing(talker) == {"sent", "own"}
    assert "level 3" in refused(talker)
    talker.tool_ok("enable", "--now", "--ignore-path-rules", "talker")
    assert growing(talker) == {"sent"}
    talker.ok("nft add rule inet fw out udp dport 9 socket cgroupv2 level 3 @named counter name own")
    assert growing(talker) == {"sent", "own"}


@pytest.mark.long
def test_iptables_in_both_variants(talker: Machine) -> None:
    """`-m cgroup --path` matches what is below too, so a rule on system.slice holds."""
    rule = "OUTPUT -p udp --dport 9 -m cgroup --path"

    def packets(variant: str) -> int:
        listing = talker.ok(f"{variant} -t mangle -L OUTPUT 1 -v -x -n")
        return int(listing.split()[0])

    def matches(variant: str) -> bool:
        before = packets(variant)
        time.sleep(5)
        return packets(variant) > before

    for variant in ("iptables-nft", "iptables-legacy"):
        talker.ok(f"{variant} -t mangle -A {rule} system.slice -j ACCEPT")
        assert matches(variant)
        assert planned(talker)[0]["verdict"] == "layered"
        talker.ok(f"{variant} -t mangle -F; {variant} -t mangle -A {rule} {PLAIN} -j ACCEPT")
        assert matches(variant)
        sentence = refused(talker)
        assert "iptables table mangle" in sentence and f"--path {PLAIN}" in sentence.replace('"', "")
        if variant == "iptables-nft":
            talker.ok(f"{variant} -t mangle -F")
    talker.tool_ok("enable", "--now", "--ignore-path-rules", "talker")
    assert not matches("iptables-legacy")
    talker.ok(f"iptables-legacy -t mangle -F; iptables-legacy -t mangle -A {rule} {LAYER} -j ACCEPT")
    assert matches("iptables-legacy")
    talker.ok("iptables-legacy -t mangle -F")


@pytest.mark.long
def test_a_bpf_program_on_the_cgroup(talker: Machine, tmp_path: Path) -> None:
    """One that somebody attached goes with the cgroup; those that systemd attaches are none of ours."""
    source, built = tmp_path / "pass.c", tmp_path / "pass.o"
    source.write_text(PROGRAM)
    subprocess.run(["clang", "-O2", "-g", "-target", "bpf", "-c", source, "-o", built], check=True)
    talker.ok(f"echo {base64.b64encode(built.read_bytes()).decode()} | base64 -d > /root/pass.o")
    talker.ok("bpftool prog load /root/pass.o /sys/fs/bpf/pass; bpftool prog load /root/pass.o /sys/fs/bpf/foreign")
    settings = "IPAddressDeny=10.9.9.9\nDeviceAllow=/dev/null rw\nIPEgressFilterPath=/sys/fs/bpf/foreign\n"
    talker.write("/etc/systemd/system/talker.service", TALKER + settings)
    talker.ok("systemctl daemon-reload; systemctl restart talker")
    programs = f"bpftool cgroup show /sys/fs/cgroup/{PLAIN}"
    assert "sd_fw_egress" in talker.ok(programs) and "pass_all" in talker.ok(programs)
    assert planned(talker)[0]["verdict"] == "layered"
    talker.ok(f"bpftool cgroup attach /sys/fs/cgroup/{PLAIN} egress pinned /sys/fs/bpf/pass multi")
    assert "egress pass_all" in refused(talker)
    talker.tool_ok("enable", "--now", "--ignore-path-rules", "talker")
    after = talker.ok(f"bpftool cgroup show /sys/fs/cgroup/{LAYER}/talker.service")
    assert after.count("pass_all") == 1, "systemd's is back, the other has gone"
    talker.ok("rm /sys/fs/bpf/pass /sys/fs/bpf/foreign")


@pytest.mark.long
def test_files_that_are_loaded_at_boot(talker: Machine) -> None:
    """Rules count before they are loaded; a caller without root rights is told what was not looked at."""
    talker.ok("cp -a /etc/nftables.conf /root/nftables.conf; mkdir -p /etc/nftables.d /etc/iptables")
    talker.write("/etc/nftables.d/talker.nft", f'define who = "{PLAIN}"\n' + RULES.replace(f'"{PLAIN}"', "$who"))
    talker.ok("echo 'include \"/etc/nftables.d/*.nft\"' >> /etc/nftables.conf")
    assert "/etc/nftables.d/talker.nft, line 11" in refused(talker)
    result = talker.tool("plan", "talker", user="vagrant")
    assert result.code == 0 and "Root rights are needed to see the rules in force" in result.err
    talker.ok("cp -a /root/nftables.conf /etc/nftables.conf; rm -r /etc/nftables.d")
    talker.write("/etc/iptables/rules.v4", f"*filter\n-A OUTPUT -m cgroup --path {PLAIN} -j DROP\nCOMMIT\n")
    assert "/etc/iptables/rules.v4, line 2" in refused(talker)
    talker.ok("rm -r /etc/iptables")
