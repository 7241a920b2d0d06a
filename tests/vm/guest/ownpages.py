#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Follow the pages of services' own files over restarts; stands on pagereader.py, not on the package.

    ownpages.py RESTARTS UNIT...    one JSON object: unit -> {entity, files, taken, resident, charged, outside}

For each unit: stop it, drop caches, start it, note which pages of its own files (none that processes outside it map)
are charged to its entity; restart it; of those pages still resident, count those charged to the entity, and those that
are not by cgroup and file. The entity is the layer where the unit runs in one, else the unit's own cgroup.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pagereader import (  # type: ignore[import-not-found]  # in the guest they lie side by side
    PAGE,
    PFN,
    PIECE,
    PRESENT,
    Reader,
    libc,
    word,
)

Pages = dict[str, list[int]]


def systemctl(*words: str) -> str:
    """The output of systemctl."""
    return subprocess.run(["/usr/bin/systemctl", *words], check=True, capture_output=True, text=True).stdout.strip()


def cgroup_of(unit: str) -> str:
    """Where the unit runs."""
    return systemctl("show", "--value", "--property=ControlGroup", unit)


def entity_of(unit: str) -> str:
    """The layer of the unit if it runs in one, else its own cgroup."""
    cgroup = cgroup_of(unit)
    above = cgroup.rpartition("/")[0]
    return above if above.endswith(".service.slice") else cgroup


def pids_in(cgroup: str) -> set[int]:
    """Processes in a cgroup and below."""
    found: set[int] = set()
    for folder, _, _ in os.walk(f"/sys/fs/cgroup{cgroup}"):
        found.update(int(pid) for pid in Path(folder, "cgroup.procs").read_text().split())
    return found


def mapped(pid: int) -> set[str]:
    """Paths that a process has mapped."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return set()
    return {fields[5] for line in lines if len(fields := line.split(maxsplit=5)) == 6 and fields[5][0] == "/"}


def opened(pid: int) -> set[str]:
    """Paths that a process has open."""
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    except OSError:
        pass
    return found


def own_files(cgroup: str, extra: Path) -> list[str]:
    """Regular files that the unit's processes use and that no other process maps, and its made file."""
    mine = pids_in(cgroup)
    elsewhere: set[str] = set()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in mine:
            elsewhere |= mapped(int(name))
    used: set[str] = {str(extra)} if extra.exists() else set()
    for pid in mine:
        used |= mapped(pid) | opened(pid)
    kept = [path for path in used - elsewhere if os.path.isfile(path) and not path.startswith(("/proc", "/sys"))]
    return sorted(kept)


def owners(reader: Reader, path: str) -> dict[int, str]:
    """The owner of every resident page of a file, by page number."""
    found: dict[int, str] = {}
    size = os.stat(path).st_size
    fd = os.open(path, os.O_RDONLY)
    try:
        for first in range(0, (size + PAGE - 1) // PAGE, PIECE):
            count = min(PIECE, (size + PAGE - 1) // PAGE - first)
            address = libc.mmap(None, count * PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, first * PAGE)
            libc.madvise(address, count * PAGE, mmap.MADV_RANDOM)
            vector = ctypes.create_string_buffer(count)
            libc.mincore(address, count * PAGE, vector)
            for number in range(count):
                if vector.raw[number] & 1:
                    ctypes.c_ubyte.from_address(address + number * PAGE).value  # noqa: B018 - the read maps it
                    entry = word(reader.pagemap, address // PAGE + number)
                    if entry & PRESENT:
                        found[first + number] = reader.owner(entry & PFN)
            libc.munmap(address, count * PAGE)
    finally:
        os.close(fd)
    return found


def settled_owners(reader: Reader, path: str) -> dict[int, str]:
    """The owners once each has a name.

    The kernel goes on naming a removed cgroup until a worker has set it offline (kernel/cgroup/cgroup.c:
    `css_killed_work_fn`), which takes a while on a busy machine; its pages are then the parent's.
    """
    for _ in range(60):
        found = owners(reader, path)
        if not any(owner.startswith("inode ") for owner in found.values()):
            break
        time.sleep(1)
        reader.name_cgroups()
    return found


def inside(owner: str, entity: str) -> bool:
    """Whether a cgroup is the entity or in it."""
    return owner == entity or owner.startswith(entity + "/")


def restart(unit: str) -> None:
    """Restart, past the start limit, and wait for it."""
    systemctl("reset-failed", unit)
    systemctl("restart", unit)


def measure(unit: str, restarts: int) -> dict[str, object]:
    """Follow one unit's pages."""
    made = Path("/var/lib/made") / unit
    systemctl("stop", unit)
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
    # A socket may have started it again before the caches were dropped: then a start would read nothing anew.
    restart(unit)
    entity = entity_of(unit)
    reader = Reader()
    taken: Pages = {}
    for path in own_files(cgroup_of(unit), made):
        pages = [number for number, owner in owners(reader, path).items() if inside(owner, entity)]
        if pages:
            taken[path] = pages
    for _ in range(restarts):
        restart(unit)
    after_entity = entity_of(unit)
    reader = Reader()
    resident = charged = 0
    outside: dict[str, dict[str, int]] = {}
    for path, pages in taken.items():
        if not os.path.exists(path):
            continue
        now = settled_owners(reader, path)
        there = [number for number in pages if number in now]
        resident += len(there)
        charged += sum(inside(now[number], after_entity) for number in there)
        for owner in (now[number] for number in there if not inside(now[number], after_entity)):
            outside.setdefault(owner, {}).setdefault(path, 0)
            outside[owner][path] += 1
    total = sum(map(len, taken.values()))
    counted = {"files": len(taken), "taken": total, "resident": resident, "charged": charged}
    return {"entity": after_entity, **counted, "outside": outside}


if __name__ == "__main__":
    print(json.dumps({unit: measure(unit, int(sys.argv[1])) for unit in sys.argv[2:]}))
