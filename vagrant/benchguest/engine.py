# SPDX-License-Identifier: LGPL-2.1-or-later
"""The calls of the package that are measured. Each checks what it found: a wrong answer has no speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cgroup_layering.charges.files import Attributor
from cgroup_layering.charges.scan import scan_host


class WrongAnswer(Exception):
    """The package did not find what is there."""


def scan() -> None:
    """All page frames of the host, by cgroup and kind."""
    found = scan_host()
    if not 0 < found.charged < found.frames:
        raise WrongAnswer(f"{found.charged} of {found.frames} page frames are charged")


def attribute(names: Sequence[str], pages: int) -> None:
    """Who pays for each page of these files, whose `pages` pages are in memory, but for what the kernel reclaims."""
    files = charged = 0
    with Attributor() as attributor:
        for found in attributor.charges(names):
            files += 1
            charged += found.charged_pages
    if files != len(names) or not 0.99 * pages <= charged <= pages:
        raise WrongAnswer(f"{charged} pages of {files} files are charged; it should be {pages} of {len(names)}")


def peak_mib() -> float:
    """The largest resident memory that this process ever had, in MiB (VmHWM, proc_pid_status(5))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024  # it is in KiB
