# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpf maps on real kernels: the cgroup that is said to pay is the one whose counters grew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vm.machine import GUEST, Machine

pytestmark = pytest.mark.on("forky")

SCRIPT = Path(__file__).resolve().parent / "charges" / "bpf_owners.py"
BPFFS = "/sys/fs/bpf"
SIZE_BYTES = 4096 * 4096
# The helper that makes the map ends: it is the pin that keeps it. A restart begins anew.
UNIT = f"""[Service]
Type=exec
ExecStartPre=rm -f {BPFFS}/%N
ExecStartPre=/usr/sbin/bpftool map create {BPFFS}/%N type array key 4 value 4096 entries 4096 name %N
ExecStart=sleep infinity
"""
# A reader of a map has it open for as long as it runs.
HOLDER = f"""[Service]
Type=exec
ExecStartPre=/usr/sbin/bpftool map create {BPFFS}/%N type perf_event_array key 4 value 4 entries 64 name %N
ExecStart=/usr/sbin/bpftool map event_pipe pinned {BPFFS}/%N
"""
NAMES = ("bpf_plain", "bpf_stopped", "bpf_layered")
LAYER = "/system.slice/system-bpf_layered.service.slice"
OWNERS = {
    "plain": "/system.slice/bpf_plain.service",
    "stopped": "/system.slice",
    "layered": f"{LAYER}/bpf_layered.service",
    "layered, stopped": LAYER,
}
SENTENCE = "Cannot see who pays for bpf maps: "


def look(machine: Machine, *names: str) -> Any:
    """What the package says and the counters of all cgroups; waits for the owners of these maps."""
    pins = " ".join(f"{BPFFS}/{name}" for name in names)
    return json.loads(machine.ok(f"python3 {GUEST}/{SCRIPT.name} {pins}"))


@pytest.fixture(scope="module")
def seen(fresh: Machine) -> Iterator[dict[str, Any]]:
    """What is said before, and after each step."""
    fresh.push(SCRIPT)
    for name in NAMES:
        fresh.write(f"/run/systemd/system/{name}.service", UNIT)
    fresh.write("/run/systemd/system/bpf_held.service", HOLDER)
    try:
        fresh.ok("systemctl daemon-reload")
        looks = {"before": look(fresh)}
        fresh.ok("systemctl start bpf_plain bpf_held")
        looks["plain"] = look(fresh, "bpf_plain")
        fresh.ok("systemctl start bpf_stopped && systemctl stop bpf_stopped")
        looks["stopped"] = look(fresh, "bpf_stopped")
        fresh.ok("systemctl start bpf_layered")
        fresh.tool_ok("enable", "--now", "bpf_layered")
        looks["layered"] = look(fresh, "bpf_layered")
        fresh.ok("systemctl stop bpf_layered")
        looks["layered, stopped"] = look(fresh, "bpf_layered")
        looks["holder"] = int(fresh.show("bpf_held", "MainPID"))
        looks["pins"] = fresh.ok(f"ls {BPFFS}").split()
        yield looks
    finally:
        fresh.run("cgroup-layering disable --now bpf_layered")
        services = " ".join((*NAMES, "bpf_held"))
        fresh.run(f"systemctl stop {services}; cd {BPFFS} && rm -f {services}")
        fresh.run("rm -f /run/systemd/system/bpf_*.service; systemctl daemon-reload")


def pinned(look: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (one for one in look["maps"] if one["pins"] == [f"{BPFFS}/{name}"])
    return dict(found)


@pytest.mark.parametrize("case", OWNERS)
def test_the_owner_is_the_deepest_cgroup_that_grew(seen: dict[str, Any], case: str) -> None:
    cases = list(OWNERS)
    # Stopping changes no counter above the instance: what grew is seen against the look before the start.
    before = {"layered, stopped": "stopped"}.get(case) or (["before", *cases])[cases.index(case)]
    old, new = seen[before]["vmalloc"], seen[case]["vmalloc"]
    # Others below the same cgroup free a few pages of theirs meanwhile, so the whole size need not show.
    grown = [path for path, count in new.items() if count - old.get(path, 0) >= 0.9 * SIZE_BYTES]
    deepest = max(grown, key=lambda path: len(Path(path).parts))
    name = "bpf_" + case.partition(",")[0]
    assert (pinned(seen[case], name)["owner"], deepest) == (OWNERS[case], OWNERS[case])


def test_a_map_is_shown_as_it_was_made(seen: dict[str, Any]) -> None:
    one = pinned(seen["plain"], "bpf_plain")
    assert (one["name"], one["type"], one["pids"]) == ("bpf_plain", "array", [])
    assert SIZE_BYTES <= one["memlock_bytes"] <= 1.01 * SIZE_BYTES


def test_who_holds_a_map_is_named(seen: dict[str, Any]) -> None:
    one = pinned(seen["plain"], "bpf_held")
    assert (one["type"], one["pids"]) == ("perf_event_array", [seen["holder"]])
    assert one["owner"] == "/system.slice/bpf_held.service"


def test_looking_leaves_nothing_behind(seen: dict[str, Any]) -> None:
    assert [name for name in seen["pins"] if name.startswith("cgroup-layering")] == []
    ids = {look: {one["id"] for one in seen[look]["maps"]} for look in ("before", "plain")}
    made = {pinned(seen["plain"], name)["id"] for name in ("bpf_plain", "bpf_held")}
    assert ids["plain"] - ids["before"] == made


# How it is run, what is said, and what to do.
MISSING = {
    "root": ("runuser -u nobody --", "root rights are needed.", "Run it as root"),
    "bpftool": (
        "unshare --mount sh -c 'mount --bind /dev/null /usr/sbin/bpftool && exec \"$@\"' sh",
        "bpftool is not installed.",
        "apt install bpftool",
    ),
    "BTF": (
        "unshare --mount sh -c 'mount --bind /dev/null /sys/kernel/btf/vmlinux && exec \"$@\"' sh",
        "the kernel does not describe its types: there is no /sys/kernel/btf/vmlinux.",
        "one of Debian's kernels",
    ),
    "bpffs": (
        f"unshare --mount sh -c 'umount {BPFFS} && exec \"$@\"' sh",
        f"no bpf file system is mounted at {BPFFS}.",
        f"mount -t bpf bpf {BPFFS}",
    ),
    "capabilities": (
        "setpriv --bounding-set=-all --inh-caps=-all --securebits=+noroot,+noroot_locked",
        "`bpftool iter pin` failed: ",
        "/usr/sbin/bpftool iter pin ",
    ),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_is_missing_is_said_in_a_sentence(seen: dict[str, Any], fresh: Machine, what: str) -> None:
    around, reason, advice = MISSING[what]
    # ordinary users can't enter root's folder, so the script comes on standard input
    said, hint = json.loads(fresh.ok(f"{around} python3 - < {GUEST}/{SCRIPT.name}"))
    assert said.startswith(SENTENCE + reason)
    assert said.endswith(".") and "\n" not in said
    assert advice in hint
