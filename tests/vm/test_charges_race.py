# SPDX-License-Identifier: LGPL-2.1-or-later
"""Scans that race with writers, deleters, forks and cgroups that come and go: five minutes of all of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vm.machine import GUEST, Machine

HERE = Path(__file__).resolve().parent
SERVICE = "race-holder.service"
CGROUP = f"/system.slice/{SERVICE}"
FOLDER = "/var/tmp/race"
MADE = f"{GUEST}/made"
SECONDS = 300
# Two processors: writers with deleters, tmpfs that fills and empties, forks, and a cgroup a moment.
STRESS = (
    f"cd {FOLDER}/churn && exec stress-ng --quiet --hdd 1 --hdd-bytes 24m --filename 1 --dir 1 --shm 1 --shm-bytes 8m "
    f"--fork 1 --memfd 1 --mmapfork 1 --vm 1 --vm-bytes 96m --timeout {SECONDS + 120}s"
)
CGROUPS = (
    "n=0; while :; do n=$((n + 1)); systemd-run --quiet --collect --unit=race-$n "
    f"sh -c 'head -c 300000 /dev/urandom > {FOLDER}/churn/f$(($n % 20)); cat {FOLDER}/churn/f* > /dev/null'; "
    "sleep 0.3; done"
)
# A large file that is looked at in pieces: written here and there, cut off, evicted.
LARGE = (
    f"n=0; while :; do n=$((n + 1)); dd if=/dev/zero of={FOLDER}/churn/large bs=1M count=40 seek=$(($n % 4 * 30)) "
    f"conv=notrunc status=none; [ $(($n % 3)) != 0 ] || truncate -s 40M {FOLDER}/churn/large; "
    f"truncate -s 200M {FOLDER}/churn/large; [ $(($n % 5)) != 0 ] || "
    f"dd of={FOLDER}/churn/large oflag=nocache conv=notrunc,fdatasync count=0 status=none; done"
)
LOOKS = (
    ("charges",),
    ("charges", "--path", FOLDER, "--path", "/dev/shm"),
    ("charges", SERVICE),
    ("charges", "--cgroup", "system.slice", "--path", FOLDER),
    ("charges", "--bpf"),
)


@pytest.fixture(scope="module")
def busy(fresh: Machine) -> Iterator[dict[str, Any]]:
    """A quiet service with files of its own, and much ado beside it."""
    fresh.push(*sorted((HERE / "charges").glob("*.py")))
    fresh.ok(
        f"mkdir -p /mnt/huge {FOLDER}/churn && mount -t tmpfs -o huge=always none /mnt/huge; "
        f"systemd-run --quiet --unit={SERVICE} python3 {GUEST}/holder.py {FOLDER}/held {MADE}; "
        f"for n in $(seq 240); do test -s {MADE} && break; sleep 0.5; done; sync"
    )
    fresh.write(f"{GUEST}/cgroups.sh", CGROUPS)
    fresh.write(f"{GUEST}/stress.sh", STRESS)
    fresh.write(f"{GUEST}/large.sh", LARGE)
    try:
        fresh.ok(f"systemd-run --quiet --unit=race-stress sh {GUEST}/stress.sh")
        fresh.ok(f"systemd-run --quiet --unit=race-cgroups sh {GUEST}/cgroups.sh")
        fresh.ok(f"systemd-run --quiet --unit=race-large sh {GUEST}/large.sh")
        yield json.loads(fresh.ok(f"cat {MADE}"))
    finally:
        fresh.run(
            f"systemctl stop race-large race-cgroups race-stress {SERVICE}; umount /mnt/huge; "
            f"rm -rf {FOLDER} /dev/shm/charges"
        )


@pytest.mark.long
def test_no_look_fails_and_no_owner_is_wrong(fresh: Machine, busy: dict[str, Any]) -> None:
    """A page of the quiet service is its own or was lost sight of; memory is short, so pages may also be evicted."""
    held = {path: pages for path, pages in busy["files"].values() if not path.startswith("/proc/")}
    rounds = raced = 0
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for words in LOOKS:
            result = fresh.tool(*words, "--json=short")
            assert result.code == 0 and "Traceback" not in result.err, (words, result.err)
            document = json.loads(result.out)
            for one in document.get("files", ()):
                counted = sum(owner["pages"] for owner in one["owners"])
                raced += one["raced_pages"]
                assert counted <= one["resident_pages"] <= counted + one["raced_pages"], one
                if one["path"] in held:
                    # Evicted under pressure and read by us? We never read; so nobody else can own it.
                    assert {owner["cgroup"] for owner in one["owners"]} <= {CGROUP}, one
        rounds += 1
    assert fresh.ok("systemctl is-active race-stress race-cgroups").split() == ["active", "active"]
    print(f"{fresh.suite}: {rounds} rounds, {raced} pages raced")
    assert rounds >= 2
