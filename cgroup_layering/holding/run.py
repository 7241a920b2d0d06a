# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a holder runs: `load OWNER` before the service starts, `record OWNER` after it has stopped.

Its order is its own unit file's declaration. What goes wrong with one resource keeps no other from being made.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.holding.model import Hold
from cgroup_layering.holding.recording import recorded
from cgroup_layering.holding.state import Report, read_state, write_state
from cgroup_layering.own import declaration
from cgroup_layering.store import Store
from cgroup_layering.unitpaths import ETC, RUN

CGROUP_ROOT = Path("/sys/fs/cgroup")


def main(verb: str, owner: str) -> int:
    """Carry out one of the two; out: the exit code."""
    hold = _declared(owner)
    if hold is None and verb == "record":
        return 0  # `disable` has taken the declaration away
    if hold is None:
        print(f"There is no holder of {owner} that cgroup-layering wrote.", file=sys.stderr)
        return 1
    if verb == "record":
        return _record(hold)
    report = Report()
    try:
        _load(hold, report)
    except (CgroupLayeringError, OSError) as error:
        report.problems.append(str(error))
    for text in report.notes:
        print(f"<5>{text}", flush=True)
    for text in report.problems:
        print(f"<3>{text}", flush=True)
    try:
        report.write(owner)
    except (CgroupLayeringError, OSError) as error:
        print(f"<4>How this went can't be shown by `status`: {str(error).rstrip('.')}.", file=sys.stderr)
    return 1 if report.problems else 0


def _record(hold: Hold) -> int:
    if not hold.files:
        return 0
    try:
        write_state(hold.owner, "resident", recorded(hold))
    except OSError as error:
        print(f"<3>What {hold.owner} had in memory can't be recorded: {str(error).rstrip('.')}.", file=sys.stderr)
        return 1
    return 0


def _declared(owner: str) -> Hold | None:
    store = Store()
    for folder in (ETC, RUN):
        for path, text in store.held(folder, owner):
            found = declaration(text, path)
            if found is not None:
                return found
    return None


def _load(hold: Hold, report: Report) -> None:
    # A stop is recorded without these, which take a while to import.
    from cgroup_layering.holding import files, maps, tmpfs

    inside = _inside()
    tmpfs.ready(hold, inside, report)
    maps.make(hold, report)
    if hold.files:
        files.load(hold, read_state(hold.owner, "resident"), inside, report)


def _inside() -> frozenset[int]:
    """The inode numbers of the cgroups of the slice that this runs in."""
    own = Path("/proc/self/cgroup").read_text().splitlines()[-1].partition("::")[2]
    top = CGROUP_ROOT / own.strip("/").rpartition("/")[0]
    return frozenset(os.lstat(folder).st_ino for folder, _, _ in os.walk(top))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
