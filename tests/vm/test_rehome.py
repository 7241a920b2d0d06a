# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rehoming on real hosts, checked with the other reader: who pays afterwards, and is the cache as warm as before."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from tests.vm.machine import GUEST, Machine

pytestmark = pytest.mark.on("forky")

DATA = "/var/lib/redis/rehome"
LAYER = "/system.slice/system-redis\\x2dserver.service.slice"
REDIS = "redis-server.service"
SHM = "/dev/shm/rehome"
MIB = 1 << 20
PAGE = 4096


def postgres(machine: Machine) -> str:
    """The instance of postgresql@.service."""
    (unit,) = (name for name in machine.services("active") if name.startswith("postgresql@"))
    return unit


@pytest.fixture(scope="module")
def migrated(fresh: Machine) -> dict[str, Any]:
    """Three real services, with what they had cached before and after a migration with --rehome."""
    units = (REDIS, "nginx.service", postgres(fresh))
    fresh.ok("redis-cli set a b; sync")
    document = fresh.json("migrate", "--yes", "--now", "--rehome", *units)
    seen = {one["unit"]: one for one in fresh.json("charges", *units)["services"]}
    return {"units": units, "outcome": document, "seen": seen}


def owners(machine: Machine, *paths: str) -> list[dict[str, int]]:
    """Pages by cgroup of each file, by the other reader."""
    found = json.loads(machine.ok(f"python3 {GUEST}/pagereader.py --json {shlex.join(paths)}"))
    return [one["owners"] for one in found]


def test_a_migration_leaves_no_strays(fresh: Machine, migrated: dict[str, Any]) -> None:
    assert sorted(migrated["outcome"]["moved"]) == sorted(migrated["units"])
    assert not migrated["outcome"]["failed"]
    for unit in migrated["units"]:
        one = migrated["seen"][unit]
        assert one["stray_pages"] == 0, (one["strays"], one["files"])
        assert one["inside_pages"] > 100
        assert one["home"].endswith(".service.slice")


def test_the_cache_is_as_warm_as_before(migrated: dict[str, Any]) -> None:
    rehomed = {one["unit"]: one for one in migrated["outcome"]["rehomed"]}
    assert set(rehomed) == set(migrated["units"])
    for one in rehomed.values():
        before, after = one["resident_pages_before"], one["resident_pages_after"]
        assert before > 100 and abs(after - before) <= 0.02 * before, one
        assert one["stray_pages_before"] >= one["evicted_pages"] > 0
        assert one["problems"] == []


def test_the_other_reader_agrees(fresh: Machine, migrated: dict[str, Any]) -> None:
    for one in migrated["seen"].values():
        own = [
            file["path"]
            for file in one["files"]
            if file["inside_pages"] and not (file["deleted"] or file["shared_with"])
        ][:5]
        for path, found in zip(own, owners(fresh, *own), strict=True):
            assert all(cgroup.startswith(one["home"]) for cgroup in found), (path, found)


def test_the_controllers_of_the_layer_are_as_they_were(fresh: Machine, migrated: dict[str, Any]) -> None:
    """The transient unit inside has none of its own to ask for, and is gone."""
    assert "memory" in fresh.cgroup_file(LAYER, "cgroup.subtree_control").split()
    assert fresh.ok("systemctl list-units --all --plain --no-legend 'cgroup-layering-rehome-*'") == ""
    assert fresh.ok("ls -d /run/cgroup-layering-rehome-* 2>/dev/null || true") == ""
    assert fresh.tool("verify", "--strict", REDIS).code == 0


@pytest.mark.long
def test_a_running_service_gets_what_others_read_and_wrote(fresh: Machine, migrated: dict[str, Any]) -> None:
    """Strays of every state: clean, dirty, with holes; exactly what was in memory is in memory again."""
    fresh.ok(
        f"head -c {4 * MIB} /dev/urandom > {DATA}; sync; "
        f"head -c {MIB} /dev/urandom >> {DATA}; sha256sum {DATA} > /root/sum"
    )
    (before,) = owners(fresh, DATA)
    assert sum(before.values()) == 5 * MIB // PAGE and not any(cgroup.startswith(LAYER) for cgroup in before)
    assert fresh.json("verify", REDIS)["pages"][REDIS]["stray_pages"] == 1280, "redis has it neither open nor mapped"
    (one,) = fresh.json("rehome", REDIS)["rehomed"]
    assert (one["stray_pages_before"], one["stray_pages_after"]) == (1280, 0)
    assert one["reread_bytes"] == 5 * MIB
    assert owners(fresh, DATA) == [{LAYER: 1280}]
    assert fresh.ok("sha256sum -c /root/sum").endswith("OK")
    again = fresh.json("rehome", REDIS)["rehomed"]
    assert [(o["stray_pages_before"], o["reread_bytes"]) for o in again] == [(0, 0)]


@pytest.mark.long
def test_what_is_mapped_waits_for_a_restart(fresh: Machine, migrated: dict[str, Any]) -> None:
    """The program's own pages, brought in by somebody else, while it is down: they are strays that it maps."""
    program = fresh.ok(f"readlink -e /proc/$(systemctl show --value -p MainPID {REDIS})/exe")
    fresh.ok(f"systemctl stop {REDIS}; dd if={program} iflag=nocache count=0 status=none; cat {program} > /dev/null")
    fresh.ok(f"systemctl start {REDIS}")
    (service,) = fresh.json("charges", REDIS)["services"]
    assert service["stray_pages"] > 100, "otherwise there was nothing to wait for"
    (one,) = fresh.json("rehome", REDIS)["rehomed"]
    assert one["left"].get("mapped", 0) > 0
    (one,) = fresh.json("rehome", "--now", REDIS)["rehomed"]
    assert (one["stray_pages_after"], one["problems"]) == (0, [])
    assert fresh.services("active")[REDIS].startswith(LAYER)


@pytest.mark.long
def test_files_on_tmpfs(fresh: Machine, migrated: dict[str, Any]) -> None:
    """Copied only when asked for and when the service is down; everything but the pages stays.

    It is not redis's own: RemoveIPC=yes of its unit would remove it at the stop.
    """
    facts = f"stat -c '%U %G %a %y %s %b' {SHM}/state; sha256sum {SHM}/state"
    fresh.ok(
        f"mkdir -m 700 {SHM} && chown daemon:daemon {SHM} && head -c {2 * MIB} /dev/urandom > {SHM}/state && "
        f"chown daemon:daemon {SHM}/state && chmod 640 {SHM}/state && touch -d 2001-02-03 {SHM}/state"
    )
    before = fresh.ok(facts)
    (one,) = fresh.json("rehome", REDIS, "--path", SHM)["rehomed"]
    assert one["left"]["on tmpfs"] == 512 and one["copied_bytes"] == 0
    refused = fresh.tool("rehome", REDIS, "--tmpfs", "--path", SHM)
    assert refused.code == 1 and "is running" in refused.err
    (one,) = fresh.json("rehome", REDIS, "--now", "--tmpfs", "--path", SHM)["rehomed"]
    assert (one["copied_bytes"], one["stray_pages_after"], one["problems"]) == (2 * MIB, 0, [])
    (found,) = owners(fresh, f"{SHM}/state")
    assert sum(found.values()) == 512 and all(cgroup.startswith(LAYER) for cgroup in found)
    assert fresh.ok(facts) == before
    assert fresh.ok(f"ls -A {SHM}") == "state"


def test_bpf_maps_are_said_to_stay(fresh: Machine, migrated: dict[str, Any]) -> None:
    pin = "/sys/fs/bpf/rehome"
    fresh.ok(f"bpftool map create {pin} type array key 4 value 4096 entries 64 name rehome")
    document = fresh.json("charges", "--bpf")
    (one,) = (one for one in document["bpf_maps"] if pin in one["pins"])
    assert one["name"] == "rehome" and one["cgroup"].startswith("/user.slice")
    fresh.ok(f"rm {pin}")


@pytest.mark.long
def test_wrong_words(fresh: Machine, migrated: dict[str, Any]) -> None:
    wrong = {
        "rehome cron": (1, "cron.service is not layered"),
        "rehome": (2, "Missing argument"),
        "rehome nosuch": (4, "no unit"),
        "rehome redis-server --path /nosuch": (2, "does not exist"),
        "enable --rehome cron": (2, "needs --now"),
        "migrate --yes --rehome cron": (2, "needs --now"),
    }
    for words, (code, sentence) in wrong.items():
        result = fresh.run(f"cgroup-layering {words} </dev/null")
        assert (result.code, sentence in result.err) == (code, True), result
    refused = fresh.tool("rehome", "redis-server", user="nobody")
    assert refused.code == 1 and "Root rights" in refused.err
