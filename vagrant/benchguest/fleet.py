# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hundreds of small services, of which every third runs, and the program on them in a process of its own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

from cgroup_layering import __main__ as program

os.environ["SYSTEMD_BUS_TIMEOUT"] = "300s"
"""For systemctl, which gives up after 25 s: an emulated systemd can take longer to load a thousand units."""
UNITS = Path("/etc/systemd/system")
GLOB = "bench-*"
TARGET = "bench.target"
SERVICE = """[Unit]
Description=One of many
StartLimitIntervalSec=0
[Service]
Type=exec
ExecStart=/usr/bin/sleep infinity
MemoryMax=64M
CPUWeight=120
"""
_IMPORTS = ("cli.main", "cli.plan", "cli.migrate", "cli.rollback", "systemd.bus", "output.rehoming")
_THEIRS = ("pydbus", "jinja2", "rich.progress")


class Failed(Exception):
    """A command that is measured failed: there is no speed of that."""


def unit(number: int) -> str:
    """The name of the n-th service."""
    return f"bench-{number:04}.service"


def systemctl(*words: str) -> str:
    """What systemctl prints; it must succeed."""
    return subprocess.run(["systemctl", *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def make_fleet(services: int) -> None:
    """So many services, every third of them running; a target wants all, so that systemd has all of them loaded."""
    for number in range(services):
        (UNITS / unit(number)).write_text(SERVICE)
    wants = " ".join(unit(number) for number in range(services))
    (UNITS / TARGET).write_text(f"[Unit]\nDescription=Many\nWants={wants}\n")
    systemctl("daemon-reload")
    # Without its dependencies, which would start all of them.
    systemctl("start", "--job-mode=ignore-dependencies", TARGET)
    running = [unit(number) for number in range(0, services, 3)]
    for first in range(0, len(running), 50):
        systemctl("start", *running[first : first + 50])
    loaded = len(systemctl("list-units", "--all", "--plain", "--no-legend", "--", GLOB).splitlines())
    if loaded != services:
        raise Failed(f"{loaded} of {services} services are loaded")


def import_all() -> None:
    """Import what the program does, once: a child then has it."""
    for name in (*(f"cgroup_layering.{name}" for name in _IMPORTS), *_THEIRS):
        importlib.import_module(name)


def tool(*words: str) -> None:
    """Be the program in a child, whose interpreter and imports are up; what it prints is dropped."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _call(words)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise Failed(f"cgroup-layering {' '.join(words)} ended with {code}")


def _call(words: tuple[str, ...]) -> None:
    """Never returns. Errors are left on standard error."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    code: object = 1
    sys.argv = ["cgroup-layering", *words, "--quiet"]
    try:
        program.main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)
