# SPDX-License-Identifier: LGPL-2.1-or-later
"""`charges` on real hosts: every look against the other reader, and a sentence for whatever can't be looked at."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vm.machine import GUEST, Machine

pytestmark = pytest.mark.on("bookworm")

HERE = Path(__file__).resolve().parent
SERVICE = "charges-verb.service"
CGROUP = f"/system.slice/{SERVICE}"
FOLDER = "/var/tmp/charges"
MADE = f"{GUEST}/made"
UNIT = f"""[Service]
ExecStartPre=/usr/bin/python3 {GUEST}/segment.py
ExecStart=/usr/bin/python3 {GUEST}/holder.py {FOLDER} {MADE}
"""
# What a command's memory grew to, in KiB; its output goes nowhere.
PEAK = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


@pytest.fixture(scope="module")
def made(fresh: Machine) -> Iterator[dict[str, Any]]:
    """A service with files of every kind, some of them without a name; what it made."""
    fresh.push(*sorted((HERE / "charges").glob("*.py")))
    fresh.write(f"/run/systemd/system/{SERVICE}", UNIT)
    try:
        fresh.ok(
            "mkdir -p /mnt/huge && mount -t tmpfs -o huge=always none /mnt/huge; "
            f"systemctl daemon-reload && systemctl start {SERVICE}; "
            f"for n in $(seq 120); do test -s {MADE} && break; sleep 0.5; done; sync"
        )
        yield json.loads(fresh.ok(f"cat {MADE}"))
    finally:
        fresh.run(f"systemctl stop {SERVICE}; umount /mnt/huge; rm -rf {FOLDER} /dev/shm/charges; ipcrm --all=shm")


def names(made: dict[str, Any]) -> dict[str, int]:
    """The files that have a name, and their pages."""
    return {path: pages for path, pages in made["files"].values() if not path.startswith("/proc/")}


@pytest.mark.long
def test_files_and_their_sums(fresh: Machine, made: dict[str, Any]) -> None:
    paths = [word for path in names(made) for word in ("--path", path)]
    document = fresh.json("charges", *paths)
    assert {one["path"]: (one["resident_pages"], one["owners"]) for one in document["files"]} == {
        path: (pages, [{"cgroup": CGROUP, "unit": SERVICE, "pages": pages, "bytes": pages * 4096}])
        for path, pages in names(made).items()
    }
    total = sum(names(made).values())
    assert document["cgroups"] == [{"cgroup": CGROUP, "unit": SERVICE, "pages": total, "bytes": total * 4096}]
    assert (document["file_count"], document["unreadable"]) == (len(names(made)), [])


@pytest.mark.long
def test_a_folder_agrees_with_the_other_reader(fresh: Machine, made: dict[str, Any]) -> None:
    document = fresh.json("charges", "--path", "/usr/sbin", "--sort", "name", "--top", "0")
    listed = [one["path"] for one in document["files"]]
    assert listed == sorted(listed) and len(listed) > 50
    in_memory = [one for one in document["files"] if one["resident_pages"]][:12]
    theirs = json.loads(fresh.ok(f"python3 {GUEST}/pagereader.py --json {shlex.join(o['path'] for o in in_memory)}"))
    for ours, other in zip(in_memory, theirs, strict=True):
        assert {owner["cgroup"]: owner["pages"] for owner in ours["owners"]} == other["owners"], ours["path"]


def test_a_service_and_all_that_it_uses(fresh: Machine, made: dict[str, Any]) -> None:
    (service,) = fresh.json("charges", SERVICE)["services"]
    assert service["home"] == CGROUP
    files = {file["path"]: file for file in service["files"]}
    assert files["/memfd:charges"]["inside_pages"] == made["files"]["memfd"][1]
    assert files[f"{FOLDER}/gone"]["deleted"] is True
    assert files["/dev/shm/charges"]["uses"] == ["tmpfs"], "found by its charge: the service does not have it open"
    assert files[f"{FOLDER}/data"]["inside_pages"] == made["files"]["disk"][1]
    (libc,) = (file for path, file in files.items() if path.endswith("/libc.so.6"))
    assert "/init.scope" in libc["shared_with"]
    strays = sum(file["resident_pages"] - file["inside_pages"] for file in service["files"] if not file["shared_with"])
    assert service["stray_pages"] == strays == sum(owner["pages"] for owner in service["strays"])


@pytest.mark.long
def test_what_is_charged_to_a_cgroup(fresh: Machine, made: dict[str, Any]) -> None:
    """All of it has a name: files, deleted files, memfd, and shared memory that nobody has attached."""
    (found,) = fresh.json("charges", "--cgroup", SERVICE)["contents"]
    sizes = {one["name"]: one["bytes"] for one in found["objects"]}
    # A file system's own blocks are cached too and belong to no file: seen as one page on forky.
    assert found["unnamed_pages"] <= 16, found
    for kind, (path, pages) in made["files"].items():
        name = {"memfd": "/memfd:charges", "deleted": f"{FOLDER}/gone"}.get(kind, path)
        assert sizes[name] == pages * 4096, kind
    (segment,) = (one for one in found["objects"] if one["kind"] == "sysv-shm")
    assert segment["bytes"] == 3 << 20
    assert abs(found["unexplained_bytes"]) <= 0.02 * found["memory_current_bytes"]
    assert [one["bytes"] for one in found["objects"]] == sorted((o["bytes"] for o in found["objects"]), reverse=True)


@pytest.mark.long
def test_the_host_adds_up(fresh: Machine, made: dict[str, Any]) -> None:
    """Rows and cgroups are the same pages twice; the sum is that of an independent scan, within its own drift.

    Sessions are left out of the second: whoever looks runs in one, and has memory of its own.
    """
    before = json.loads(fresh.ok(f"python3 {GUEST}/pagereader.py --host"))
    document = fresh.json("charges")
    after = json.loads(fresh.ok(f"python3 {GUEST}/pagereader.py --host"))
    own = sum(one["own_pages"]["total"] for one in document["cgroups"]) + document["gone_pages"]
    rows = {row["cgroup"]: row for row in document["rows"]}
    assert sum(row["pages"]["total"] for row in rows.values()) == own
    quiet = [one for one in document["cgroups"] if not one["cgroup"].startswith("/user.slice")]
    ours = sum(one["own_pages"]["total"] for one in quiet)
    scans = [
        {path: pages for path, pages in scan.items() if not path.startswith("/user.slice")} for scan in (before, after)
    ]
    totals = sorted(sum(scan.values()) for scan in scans)
    drift = max(totals[1] - totals[0], 0.01 * totals[1])
    assert totals[0] - drift <= ours <= totals[1] + drift
    assert rows[CGROUP]["kind"] == "unit" and rows["/system.slice"]["kind"] == "slice"
    assert rows[CGROUP]["pages"]["shmem"] >= made["files"]["memfd"][1] + made["files"]["shm"][1] + 768


@pytest.mark.long
def test_tables_and_their_options(fresh: Machine, made: dict[str, Any]) -> None:
    top = fresh.tool_ok("charges", "--top", "3", "--sort", "anon", "--bytes").out.splitlines()
    anon = [int(line.split()[3]) for line in top]
    assert len(anon) == 3 and anon == sorted(anon, reverse=True)
    watched = fresh.run(f"timeout 25 cgroup-layering charges --watch 1s --json short --path {FOLDER}/data")
    lines = [json.loads(line) for line in watched.out.splitlines()]
    assert watched.code == 124 and len(lines) >= 2
    assert lines[0]["files"] == lines[1]["files"]
    one = fresh.tool_ok("charges", "--path", f"{FOLDER}/data").out.split()
    assert one[-2:] == [SERVICE, f"{FOLDER}/data"]


@pytest.mark.long
def test_a_large_tree_takes_little_memory(fresh: Machine, made: dict[str, Any]) -> None:
    command = "cgroup-layering charges --path /usr --path /etc --path /var --json short"
    assert int(fresh.ok(f"python3 -c {shlex.quote(PEAK)} {command}")) <= 64 * 1024


WRONG = {
    "--path /tmp/none": (1, "No such file"),
    "--path /dev/null": (1, "a character device"),
    "--path /tmp/fifo": (1, "a FIFO"),
    "--path /tmp/socket": (1, "a socket"),
    "--path /etc/mtab": (1, "a symbolic link"),
    "--path ''": (2, "empty"),
    "--cgroup none.slice": (4, "no cgroup none.slice"),
    "--cgroup /../../etc": (4, "no cgroup"),
    "none.service": (4, "no unit"),
    "--top -1": (2, "--top"),
    "--watch 0": (2, "--watch"),
    "--watch 1 --json pretty": (2, "--json=short"),
    "--bpf nginx": (2, "--bpf"),
}


@pytest.mark.long
def test_what_cannot_be_looked_at_gets_a_sentence(fresh: Machine) -> None:
    fresh.ok("mkfifo /tmp/fifo; python3 -c 'import socket; socket.socket(1).bind(\"/tmp/socket\")'")
    for words, (code, sentence) in WRONG.items():
        result = fresh.run(f"cgroup-layering charges {words} </dev/null")
        assert (result.code, result.out) == (code, ""), result
        assert sentence in result.err and "Traceback" not in result.err, result


@pytest.mark.long
def test_who_may_not_look_is_told_so(fresh: Machine) -> None:
    looks = {
        "setpriv --reuid=nobody --regid=nogroup --clear-groups cgroup-layering charges": "Root rights are needed",
        "setpriv --bounding-set=-sys_admin cgroup-layering charges --path /etc/passwd": "CAP_SYS_ADMIN",
        # A proc file system without the kernel's own files, as in many containers.
        "unshare -m sh -c 'mount -t proc -o subset=pid proc /proc; cgroup-layering charges'": "kpagecgroup",
    }
    for command, sentence in looks.items():
        result = fresh.run(f"{command} </dev/null")
        assert result.code == 1 and result.out == "", result
        assert sentence in result.err and "Traceback" not in result.err, result


@pytest.mark.long
def test_loops_of_folders_end(fresh: Machine) -> None:
    fresh.ok(
        "mkdir -p /srv/loop/in && echo x > /srv/loop/file && ln -sf /srv/loop /srv/loop/link && "
        "mount --bind /srv/loop /srv/loop/in"
    )
    try:
        document = fresh.json("charges", "--path", "/srv/loop")
        assert [one["path"] for one in document["files"]] == ["/srv/loop/file"]
    finally:
        fresh.ok("umount /srv/loop/in")
