# SPDX-License-Identifier: LGPL-2.1-or-later
"""Timing two things in turn, so that what slows the machine down meets both."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable


def seconds(action: Callable[[], object]) -> float:
    """How long it takes once."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def in_turn(ours: Callable[[], object], peer: Callable[[], object], runs: int) -> tuple[list[float], list[float]]:
    """Seconds of each, after one run of both that doesn't count."""
    ours()
    peer()
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(runs):
        mine.append(seconds(ours))
        theirs.append(seconds(peer))
    return mine, theirs


def command(*words: str) -> Callable[[], object]:
    """A command as something to be timed; its output is dropped, and its failure is one."""
    return lambda: subprocess.run(
        words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
