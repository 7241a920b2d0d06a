# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run cgroup-layering with a fault at its n-th step, again and again: fault.py [OPTIONS] FAULT WORD...

A step is a call that changes a file system, a call of systemd's manager, or a look at what it made of it. The program
is the installed one; what strikes is patched in from here, so nothing of it is in the package. A FAULT is a signal or
one of `strikes`. Next comes a rollback, or a second migration and then a rollback, in turns; then the host has to be as
before. One line of JSON per run goes to standard output as soon as the run is over, so a later call can go on.

    fault.py note                    keep what the host is like before faults that strike from outside of it
    fault.py after THEN WORD...      look at the host after one; THEN is rollback, migrate, or nothing
"""

from __future__ import annotations

import argparse
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
from pathlib import Path
from typing import Any

from cgroup_layering import __main__ as program
from cgroup_layering.systemd import bus

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
manifest = importlib.import_module("manifest")
STRIKES = importlib.import_module("strikes").STRIKES
for verb in ("main", "migrate", "rollback", "disable"):  # once, and not in each child: that is most of its time
    importlib.import_module(f"cgroup_layering.cli.{verb}")
for module in ("jinja2", "pydbus", "rich.table"):
    importlib.import_module(module)

UNITS = ("fault-a.service", "fault-b.service")
FOLDERS = ("/etc/systemd", "/run/systemd/system", "/run/systemd/system.control", "/run/systemd/transient")
CALLS = ("open", "rename", "unlink", "mkdir", "rmdir", "fsync", "fchmod")
METHODS = ("reload", "enqueue", "jobs", "properties", "reset_failed")
NOTE = Path("/root/before-faults.json")
LONGEST = 120.0
SETTLES = 15.0
MISSED = b" (missed)"
"""Behind the name of a step at which the fault did not take: a file system that is in use can't be made read-only."""
EARLY = 2
"""So many runs of a fault that strikes before the program begins: one with a rollback next, one with a migration."""
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM}


class Striker:
    """Counts steps, and does `strike` after the n-th."""

    def __init__(self, number: int, strike: Callable[[], bool]) -> None:
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
                if not self.strike():
                    os.write(3, MISSED)
            return result

        return wrapped


def shell(text: str) -> bool:
    """Run shell lines; whether they succeeded. What they say is of no interest."""
    nothing = subprocess.DEVNULL
    return subprocess.run(["sh", "-c", text], check=False, stdout=nothing, stderr=nothing).returncode == 0


def end(number: int) -> bool:
    """Send this process a signal."""
    os.kill(os.getpid(), number)
    return True


def struck(number: int, kind: str, words: list[str]) -> tuple[str, int, str]:
    """Run the program in a child that is struck after its n-th step: that step's name or "", the end, what it said."""
    said = os.memfd_create("said")
    reading, writing = os.pipe()
    strike = STRIKES.get(kind)
    if strike is not None and strike.early:
        shell(strike.strike)
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 3)
        striker = Striker(number, lambda: shell(strike.strike) if strike else end(SIGNALS[kind]))
        if strike is not None and strike.early:
            os.write(3, b"early")
            striker.left = 0
        for name in CALLS:
            setattr(os, name, striker.wrap(name, getattr(os, name)))
        for name in METHODS:
            setattr(bus.SystemdBus, name, striker.wrap(name, getattr(bus.SystemdBus, name)))
        call(words, said)
    os.close(writing)
    deadline = time.monotonic() + LONGEST
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "hangs", -1, ""
        time.sleep(0.02)
    name = os.read(reading, 64).decode()
    os.close(reading)
    if strike is not None:
        shell(strike.heal)
    with os.fdopen(said, "rb") as file:
        file.seek(0)
        return name, os.waitstatus_to_exitcode(status), file.read().decode(errors="replace")


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


def units() -> list[dict[str, str]]:
    """Where the units are: LoadState, ActiveState and ControlGroup of each."""
    command = ["systemctl", "show", "-p", "Id", "-p", "LoadState", "-p", "ActiveState", "-p", "ControlGroup", *UNITS]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
    return [dict(line.split("=", 1) for line in block.splitlines()) for block in said.strip().split("\n\n") if block]


def folders() -> dict[str, Any]:
    """What is in the folders of unit files, less the login sessions, which come and go."""
    found = manifest.manifest(FOLDERS)
    return {path: facts for path, facts in found.items() if not path.startswith("/run/systemd/transient/session-")}


def faults(before: dict[str, Any], plain: list[dict[str, str]], layered: bool) -> list[str]:
    """What is wrong with the host, in words."""
    now = units()
    if layered:
        up = [one["LoadState"] == "loaded" and one["ActiveState"] == "active" for one in now]
        inside = [".service.slice/" in one["ControlGroup"] for one in now]
        return [] if len(now) == len(UNITS) and all(up + inside) else [f"not in their layers: {now}"]
    found = [] if now == plain else [f"not as they were: {now}"]
    there = folders()
    changed = sorted(path for path in there.keys() | before.keys() if there.get(path) != before.get(path))
    return [*found, f"left or lost: {', '.join(changed)}"] if changed else found


def valid(plain: list[dict[str, str]]) -> list[str]:
    """What is wrong with the host after the fault: the services have to be loaded and up, wherever they run."""
    deadline = time.monotonic() + SETTLES  # a job that was queued goes on without the program
    while True:
        now = units()
        right = [one["Id"] for one in now if one["LoadState"] == "loaded" and one["ActiveState"] == "active"]
        if right == [one["Id"] for one in plain]:
            return []
        if time.monotonic() > deadline:
            return [f"after the fault: {now}"]
        time.sleep(0.2)


def ending(then: str, words: list[str], before: dict[str, Any], plain: list[dict[str, str]]) -> list[str]:
    """Migrate once more if asked, roll back, and see that the host is as before; what is wrong."""
    problems, ends = [], []
    if then == "migrate":
        ends.append(run(*words))
        problems += faults(before, plain, layered=True)
    if then != "nothing":
        ends.append(run("rollback", "--now", "--quiet"))
    problems += faults(before, plain, layered=False)
    return problems + [f"then exit code {end}: {text.strip()}" for end, text in ends if end or "Traceback" in text]


def after(then: str, words: list[str]) -> dict[str, Any]:
    """Look at the host after a fault from outside: what of the migration was there, and what is wrong."""
    before, plain = json.loads(NOTE.read_text())
    there = [path for path in folders() if path not in before]
    found = {
        "slices": sum(path.endswith(".service.slice") for path in there),
        "drop-ins": sum(path.endswith("/zz-cgroup-layering.conf") for path in there),
        "moved": sum(".service.slice/" in one.get("ControlGroup", "") for one in units()),
    }
    problems = valid(plain) + ending(then, words, before, plain)
    return {"then": then, "found": found, "problems": problems}


def one(
    number: int, kind: str, again: bool, words: list[str], before: dict[str, Any], plain: list[dict[str, str]]
) -> dict[str, Any]:
    """One fault and what comes after it."""
    strike = STRIKES.get(kind)
    begin = time.monotonic()
    name, code, said = struck(number, kind, [*words, *(strike.words if strike else ())])
    problems = [] if name != "hangs" else ["it hangs"]
    if "Traceback" in said or (code > 0 and not said):
        problems.append(f"it says {said[-800:]!r}")
    if kind == "SIGTERM" and name and code != 128 + signal.SIGTERM:
        problems.append("it does not say that it was interrupted")
    if strike is not None and strike.fails and code == 0:
        problems.append("it did not fail")
    problems += faults(before, plain, layered=True) if code == 0 else valid(plain)
    problems += ending("migrate" if again else "rollback", words, before, plain)
    if problems:  # the next fault shall not be blamed for this one
        run("disable", "--now", "--quiet", *UNITS)
    return {
        "fault": kind,
        "step": number,
        "name": name,
        "exit": code,
        "then": "migrate" if again else "rollback",
        "said": said.strip()[-300:],
        "seconds": round(time.monotonic() - begin, 1),
        "problems": problems,
    }


def strike_all() -> None:
    """Every `step`-th step from `first` on, until the program gets through without being struck or time is up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--turn", type=int, default=0, help="1: begin with a second migration")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no run after so many")
    parser.add_argument("fault", choices=(*SIGNALS, *STRIKES))
    parser.add_argument("words", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    with contextlib.suppress(OSError):
        os.close(3)
    os.dup2(1, 3)
    strike = STRIKES.get(options.fault)
    if strike is not None:
        shell(strike.ground)
    before, plain = folders(), units()
    number, turn = options.first, options.turn
    while time.monotonic() < end:
        result = one(number, options.fault, turn % 2 == 1, options.words, before, plain)
        print(json.dumps(result), flush=True)
        turn += 1
        if not result["name"] or (strike is not None and strike.early and turn - options.turn >= EARLY):
            break
        number += 0 if strike is not None and strike.early else options.step
    if strike is not None:
        shell(strike.away)


def main(words: list[str]) -> None:
    """One of the three."""
    if words[0] == "note":
        NOTE.write_text(json.dumps((folders(), units())))
    elif words[0] == "after":
        print(json.dumps(after(words[1], words[2:])), flush=True)
    else:
        strike_all()


if __name__ == "__main__":
    main(sys.argv[1:])
