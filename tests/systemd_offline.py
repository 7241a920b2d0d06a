# SPDX-License-Identifier: LGPL-2.1-or-later
"""What systemd makes of unit files: `systemd-analyze verify` reads them without a manager and says what it read."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

TIMEOUT = 60.0
EXEC = "[Service]\nExecStart=/bin/true\n"
"""What a service needs to be loaded at all."""


@dataclass
class Read:
    """One unit as systemd read it: the lines of its dump, by key, in order."""

    lines: dict[str, list[str]] = field(default_factory=dict)

    def one(self, key: str) -> str:
        """The first value of a key; raises KeyError where the dump has none."""
        return self.lines[key][0]

    def paths(self, key: str) -> list[Path]:
        """All values of a key, as paths."""
        return [Path(value) for value in self.lines.get(key, [])]


@cache
def version() -> int:
    """The major version of this machine's systemd-analyze, or 0 where there is none."""
    if shutil.which("systemd-analyze") is None:
        return 0
    words = subprocess.run(
        ["systemd-analyze", "--version"], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    return int(words.stdout.split()[1])


needs_systemd = pytest.mark.skipif(version() == 0, reason="there is no systemd-analyze on this machine")


def load(folders: Sequence[Path], units: Iterable[str]) -> tuple[dict[str, Read], str]:
    """Have systemd load `units` from `folders` (first wins): what it read of each that it could load, and its talk."""
    # Names are given as paths in the first folder: systemd-analyze puts their folder in front of the others.
    command = ["systemd-analyze", "verify", "--man=no", "--generators=no"]
    done = subprocess.run(
        [*command, *(str(folders[0] / unit) for unit in units)],
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
        env={
            **os.environ,
            "LC_ALL": "C.UTF-8",
            "SYSTEMD_LOG_LEVEL": "debug",
            "SYSTEMD_LOG_COLOR": "0",
            "SYSTEMD_UNIT_PATH": ":".join(map(str, folders)),
        },
    )
    found: dict[str, Read] = {}
    current: Read | None = None
    # BlockIODeviceWeight: is printed without a newline behind it.
    text = done.stdout.decode(errors="surrogateescape").replace("\t-> Unit ", "\n\t-> Unit ")
    # A value may hold any control character but the newline, so splitlines() would not do.
    for line in text.split("\n"):
        if line.startswith("\t-> Unit "):
            current = found.setdefault(line.removeprefix("\t-> Unit ").removesuffix(":"), Read())
        elif current is not None and line.startswith("\t\t") and ": " in line:
            key, _, value = line.removeprefix("\t\t").partition(": ")
            current.lines.setdefault(key, []).append(value)
    return found, done.stderr.decode(errors="surrogateescape")
