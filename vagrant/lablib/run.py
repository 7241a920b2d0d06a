# SPDX-License-Identifier: LGPL-2.1-or-later
"""Running commands, telling progress, and locks between two runs of the lab."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from lablib.paths import LabError, cache, log_file

T = TypeVar("T")
_BEGIN = time.monotonic()


def say(text: str, suite: str = "lab") -> None:
    """Print one line of progress on standard error, with the seconds since the command began."""
    print(f"[{time.monotonic() - _BEGIN:6.1f} s] {suite}: {text}", file=sys.stderr, flush=True)


def output(command: Sequence[str], timeout: float = 120) -> str:
    """Standard output of `command`; LabError with its standard error if it fails or takes over `timeout` seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise LabError(f"{_short(command)} took more than {timeout:.0f} s.") from None
    if done.returncode:
        raise LabError(f"{_short(command)} failed ({done.returncode}): {(done.stderr or done.stdout).strip()}")
    return done.stdout


def succeeds(command: Sequence[str], timeout: float = 60) -> bool:
    """Whether `command` exits 0 within `timeout` seconds; its output is dropped."""
    try:
        return (
            subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=timeout
            ).returncode
            == 0
        )
    except subprocess.TimeoutExpired:
        return False


def logged(command: Sequence[str], name: str, environment: dict[str, str] | None = None) -> None:
    """Run `command` with its output in the log `name`; LabError with the log's last lines if it fails."""
    log = log_file(name)
    with log.open("w") as sink:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=os.environ | (environment or {}),
        )
    if done.returncode:
        # Vagrant's progress is thousands of lines that end in a carriage return.
        lines = [line for line in log.read_text(errors="replace").splitlines() if "Progress: " not in line]
        last = "\n  ".join(lines[-12:])
        raise LabError(f"{_short(command)} failed ({done.returncode}); the end of {log}:\n  {last}")


def in_parallel(jobs: Callable[[str], T], names: Sequence[str], at_once: int) -> list[T]:
    """`jobs` of every name, `at_once` at a time; LabError with all that failed, after all have ended."""
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        futures = [pool.submit(jobs, name) for name in names]
    failed = [str(error) for future in futures if (error := future.exception()) is not None]
    if failed:
        raise LabError("\n".join(failed))
    return [future.result() for future in futures]


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the lock `name` against other runs of the lab that share the cache."""
    folder = cache() / "lock"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another lab command that holds the lock {name!r}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write_if_changed(path: Path, text: str) -> bool:
    """Write `text` to `path` unless it is there already; whether it was written."""
    if path.exists() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return True


def _short(command: Sequence[str]) -> str:
    text = " ".join(command)
    return text if len(text) < 160 else text[:160] + "..."
