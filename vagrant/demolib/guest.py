# SPDX-License-Identifier: LGPL-2.1-or-later
"""One VM of the lab, through the lab's own command."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

LAB = Path(__file__).resolve().parent.parent / "lab"
_BEGIN = time.monotonic()
_PATIENCE = 1800  # seconds; a first boot builds the box


class DemoError(Exception):
    """A step that failed, as a sentence."""


def say(text: str, who: str = "demo") -> None:
    """Print a line of progress on standard error, with the seconds since the beginning."""
    print(f"[{time.monotonic() - _BEGIN:6.1f} s] {who}: {text}", file=sys.stderr, flush=True)


def lab(*words: str, timeout: float = _PATIENCE) -> None:
    """Run a command of the lab; its progress goes to standard error. Raises DemoError."""
    try:
        done = subprocess.run([LAB, *words], check=False, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise DemoError(f"vagrant/lab {shlex.join(words)} took more than {timeout:.0f} s.") from None
    if done.returncode:
        raise DemoError(f"vagrant/lab {shlex.join(words)} failed with exit code {done.returncode}.")


class Guest:
    """A running VM, by its suite's name."""

    def __init__(self, suite: str) -> None:
        self.suite = suite

    def say(self, text: str) -> None:
        """A line of progress about this VM."""
        say(text, self.suite)

    def restore(self) -> None:
        """Bring it back to its clean snapshot."""
        lab("restore", self.suite, "clean")

    def push(self, file: Path, dest: str) -> None:
        """Copy a file or folder into it."""
        lab("push", self.suite, str(file), dest, timeout=300)

    def run(self, command: str, timeout: float = 300) -> str:
        """Run a shell command as root; out: its standard output. Raises DemoError with what it said."""
        return "\n".join(self.lines(command, timeout))

    def lines(self, command: str, timeout: float = 300) -> Iterator[str]:
        """The same, line by line as they come. `timeout` seconds are for the whole command."""
        remote = f"timeout {timeout:.0f} sh -c {shlex.quote(command)}"
        words = [str(LAB), "ssh", self.suite, "--", remote]
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
            )
            # a VM that hangs does not keep its own time limit
            alarm = threading.Timer(timeout + 60, process.kill)
            alarm.start()
            try:
                for line in process.stdout or ():
                    yield line.rstrip("\n")
                code = process.wait()
            finally:
                alarm.cancel()
                process.kill()
                process.wait()
            errors.seek(0)
            said = errors.read().strip() or "it said nothing"
        if code in (124, -signal.SIGKILL):
            raise DemoError(f"On {self.suite}, `{command}` took more than {timeout:.0f} s.")
        if code:
            raise DemoError(f"On {self.suite}, `{command}` failed with exit code {code}: {said}")
