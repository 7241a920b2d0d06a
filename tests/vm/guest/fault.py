# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run cgroup-layering with a fault at its n-th step, again and again: fault.py SIGNAL FIRST STEP WORD...

A step is a call that changes a file system, a call of systemd's manager, or a look at what it made of it. The program
is the installed one; what strikes is patched in from here, so nothing of it is in the package. Each step is struck
twice: once a rollback comes next, once a second migration and then a rollback. Then the host has to be as before.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from cgroup_layering import __main__ as program
from cgroup_layering.systemd import bus

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
manifest = importlib.import_module("manifest")

UNITS = ("fault-a.service", "fault-b.service")
FOLDERS = ("/etc/systemd", "/run/systemd/system", "/run/systemd/system.control", "/run/systemd/transient")
CALLS = ("open", "rename", "unlink", "mkdir", "rmdir", "fsync", "fchmod")
METHODS = ("reload", "enqueue", "jobs", "properties", "reset_failed")
LONGEST = 120.0


class Striker:
    """Counts steps, and does `strike` after the n-th."""

    def __init__(self, number: int, strike: Callable[[], None]) -> None:
        self.left = number
        self.strike = strike

    def wrap(self, name: str, call: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            if name == "open" and not args[1] & os.O_CREAT:
                return result
            self.left -= 1
            if self.left == 0:
                os.write(3, name.encode())
                self.strike()
            return result

        return wrapped


def struck(number: int, kind: int, words: list[str]) -> tuple[str, int]:
    """Run the program in a child that gets signal `kind` after its n-th step; that step's name or "", and the end."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 3)
        striker = Striker(number, lambda: os.kill(os.getpid(), kind))
        for name in CALLS:
            setattr(os, name, striker.wrap(name, getattr(os, name)))
        for name in METHODS:
            setattr(bus.SystemdBus, name, striker.wrap(name, getattr(bus.SystemdBus, name)))
        call(words, sys.stderr.fileno())
    os.close(writing)
    deadline = time.monotonic() + LONGEST
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "hangs", -1
        time.sleep(0.02)
    name = os.read(reading, 64).decode()
    os.close(reading)
    return name, os.waitstatus_to_exitcode(status)


def call(words: list[str], errors: int) -> None:
    """Be the program; never returns."""
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(errors, 2)
    sys.argv = ["cgroup-layering", *words]
    sys.stdout = io.StringIO()
    code: object = 1
    try:
        program.main()
    except SystemExit as end:
        code = end.code
    finally:
        os._exit(code if isinstance(code, int) else 1)


def run(*words: str) -> tuple[int, str]:
    """Run the program without a fault; its exit code, and what it said."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        call(list(words), writing)
    os.close(writing)
    with os.fdopen(reading, errors="replace") as said:
        text = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def systemctl(*words: str) -> str:
    """What systemctl prints."""
    return subprocess.run(["systemctl", *words], stdout=subprocess.PIPE, text=True, check=False).stdout.strip()


def groups() -> list[str]:
    """Where the units run."""
    return systemctl("show", "--value", "-p", "ControlGroup", *UNITS).split()


def faults(before: dict[str, Any], plain: list[str], layered: bool) -> list[str]:
    """What is wrong with the host, in words."""
    found = []
    if systemctl("is-active", *UNITS).split() != ["active"] * len(UNITS):
        found.append("a service is down")
    states = systemctl("show", "--value", "-p", "LoadState", *UNITS).split()
    if set(states) != {"loaded"}:
        found.append(f"a unit is {', '.join(states)}")
    if layered:
        if not all(".service.slice/" in group for group in groups()):
            found.append(f"not in their layers: {groups()}")
        return found
    now = manifest.manifest(FOLDERS)
    changed = sorted(path for path in now.keys() | before.keys() if now.get(path) != before.get(path))
    if changed:
        found.append(f"left or lost: {', '.join(changed)}")
    if groups() != plain:
        found.append(f"not where they were: {groups()}")
    return found


def one(
    number: int, kind: int, again: bool, words: list[str], before: dict[str, Any], plain: list[str]
) -> dict[str, Any]:
    """One fault and what comes after it."""
    name, code = struck(number, kind, words)
    problems = [] if name != "hangs" else ["it hangs"]
    ends = []
    if again:
        ends.append(run(*words))
        problems += faults(before, plain, layered=True)
    ends.append(run("rollback", "--now", "--quiet"))
    # What never got the migration's id or was undone half may need the hint that the program gives.
    problems += faults(before, plain, layered=False)
    for end, text in ends:
        if end or "Traceback" in text:
            problems.append(f"then exit code {end}: {text.strip()}")
    if problems:  # the next fault shall not be blamed for this one
        run("disable", "--now", "--quiet", *UNITS)
    return {"step": number, "name": name, "signal": kind, "exit": code, "then": "migrate" if again else "rollback",
            "problems": problems}  # fmt: skip


def main(kind: int, first: int, step: int, words: list[str]) -> None:
    """All steps from `first` on, every `step`-th, until the program gets through without being struck."""
    with contextlib.suppress(OSError):
        os.close(3)
    os.dup2(1, 3)
    before, plain = manifest.manifest(FOLDERS), groups()
    number = first
    while True:
        for again in (False, True):
            result = one(number, kind, again, words, before, plain)
            print(json.dumps(result), flush=True)
        if not result["name"]:
            return
        number += step


if __name__ == "__main__":
    main(getattr(signal, sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
