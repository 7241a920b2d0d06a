# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a thousand layers cost: to write them, to find that they are written, systemd's reload, the kernel's memory."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchguest.fleet import GLOB, UNITS, Failed, make_fleet, systemctl, tool
from benchguest.timing import command, in_turn, seconds

MANY = 1000
ROUNDS = 3
KIB_BOUND = 40.0
_AT_ONCE = 100
_SETTLING = 3.0
"""Seconds for the kernel to free what a removed cgroup had, which it does behind a grace period."""
Samples = tuple[str, str, list[float], list[float]]
"""A measure's name, its unit, ours and the peer's."""


def _written() -> dict[Path, str]:
    """The files that the migration wrote for the fleet, and what is in them."""
    files = [*UNITS.glob(f"{GLOB}.service.d/*.conf"), *UNITS.glob("system-bench*.service.slice")]
    if len(files) < 2 * MANY:
        raise Failed(f"a migration of {MANY} services wrote {len(files)} files")
    return {file: file.read_text() for file in files}


def _by_shell(files: dict[Path, str], script: Path) -> None:
    """A script that writes the same files and has systemd read them: a process for each folder and none for a file."""
    lines = []
    for file, text in files.items():
        if file.parent != UNITS:
            lines.append(f"mkdir -p {shlex.quote(str(file.parent))}")
        lines.append(f"printf %s {shlex.quote(text)} >{shlex.quote(str(file))}")
    script.write_text("\n".join(["set -e", *lines, "exec systemctl daemon-reload"]) + "\n")


def _unwrite(files: dict[Path, str]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
        if file.parent != UNITS:
            shutil.rmtree(file.parent, ignore_errors=True)
    systemctl("daemon-reload")


def writing() -> Iterator[Samples]:
    """A migration without restarts, and the same files by hand; then one that finds nothing to do, and `plan`."""
    make_fleet(MANY)
    migrate = partial(tool, "migrate", GLOB, "--yes")
    migrate()
    files = _written()
    script = Path("/var/tmp/bench/by-hand.sh")  # noqa: S108 - a folder of the guest's, on its disk
    _by_shell(files, script)
    tool("rollback")
    ours: list[float] = []
    peer: list[float] = []
    for _ in range(ROUNDS):
        os.sync()
        peer.append(seconds(command("sh", str(script))))
        if _written() != files:
            raise Failed("the shell wrote other files than the migration")
        _unwrite(files)
        os.sync()
        ours.append(seconds(migrate))
        if _written().keys() != files.keys():
            raise Failed("two migrations wrote different files")
        tool("rollback")
    yield "migrate.1000.vs-shell", "s", ours, peer
    migrate()
    yield "migrate.noop.vs-plan", "s", *in_turn(migrate, partial(tool, "plan", GLOB), 5)


def being() -> Iterator[Samples]:
    """The layers' cgroups, all of them there or none."""
    make_fleet(MANY)
    reload = command("systemctl", "daemon-reload")
    with_them: list[float] = []
    without: list[float] = []
    each: list[float] = []
    for _ in range(ROUNDS):
        if _is_layered():
            tool("rollback")
        reload()
        without += [seconds(reload) for _ in range(2)]
        tool("migrate", GLOB, "--yes")
        layers = sorted(file.name for file in UNITS.glob("system-bench*.service.slice"))
        before = _kernel_kib()
        _all("start", layers)
        each.append((_kernel_kib() - before) / len(layers))
        with_them += [seconds(reload) for _ in range(2)]
        _all("stop", layers, "--job-mode=ignore-requirements")
    tool("rollback")
    yield "reload.1000", "s", with_them, without
    yield "layer.kernel-memory", "KiB", each, [KIB_BOUND]


def _is_layered() -> bool:
    return any(UNITS.glob("system-bench*.service.slice"))


def _all(verb: str, layers: list[str], *options: str) -> None:
    for first in range(0, len(layers), _AT_ONCE):
        systemctl(verb, *options, *layers[first : first + _AT_ONCE])
    there = sum(Path("/sys/fs/cgroup/system.slice", name).is_dir() for name in layers)
    if there != (len(layers) if verb == "start" else 0):
        raise Failed(f"{there} of {len(layers)} layers have a cgroup after `systemctl {verb}`")


def _kernel_kib() -> float:
    """Memory of the kernel's own objects in KiB (proc_meminfo(5)), without what it keeps of names in case of need."""
    time.sleep(_SETTLING)
    subprocess.run(["sync"], check=True)
    Path("/proc/sys/vm/drop_caches").write_text("2\n")
    time.sleep(_SETTLING)
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return float(sum(int(words[1]) for words in lines if words[0] in ("Slab:", "Percpu:")))
