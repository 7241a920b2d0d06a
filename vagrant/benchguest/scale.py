# SPDX-License-Identifier: LGPL-2.1-or-later
"""python3 -m benchguest.scale [NAME...] prints a JSON line for each measure of a host with a thousand services.

"Ours" is the program in a child of this process, whose interpreter and imports are up: what starting costs is what
cli.start is about.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

from benchguest.cost import fault_seconds
from benchguest.fleet import GLOB, import_all, make_fleet, systemctl, tool, unit
from benchguest.layers import MANY, Samples, being, writing
from benchguest.timing import command, in_turn, seconds

FEW = 100
RSS_BOUND_MIB = 80.0
RESTARTS = 30


def plan() -> Iterator[Samples]:
    """`plan` of the services that were made, at two sizes, and of the whole host."""
    make_fleet(FEW)
    glob = partial(tool, "plan", GLOB)
    glob()
    few = [seconds(glob) for _ in range(5)]
    make_fleet(MANY)
    many = [seconds(glob) for _ in range(3)]
    yield "plan.growth", "s", many, few
    ours, peer = in_turn(partial(tool, "plan"), command("systemctl", "show", "*.service"), 5)
    yield "plan.1000.vs-systemctl-show", "s", ours, peer


def rss() -> Iterator[Samples]:
    """A process of its own."""
    make_fleet(MANY)
    words = [sys.executable, "-m", "benchguest.planpeak"]
    done = [subprocess.run(words, check=True, text=True, capture_output=True) for _ in range(3)]
    yield "plan.rss", "MiB", [float(one.stderr.split()[-1]) for one in done], [RSS_BOUND_MIB]


def running() -> Iterator[Samples]:
    """A layered service and a plain one that are the same otherwise."""
    make_fleet(FEW)
    nested, flat = unit(0), unit(3)
    tool("enable", nested, "--now")
    ours, peer = (command("systemctl", "restart", name) for name in (nested, flat))
    mine, theirs = in_turn(ours, peer, RESTARTS)
    yield "restart.layered-vs-plain", "s", mine, theirs
    groups = [systemctl("show", "--value", "-p", "ControlGroup", name).strip() for name in (nested, flat)]
    if [group.count("/") for group in groups] != [3, 2]:
        raise SystemExit(f"the two services run in {groups}")
    inside: list[float] = []
    plain: list[float] = []
    for number in range(16):
        for group, mine in zip(groups, (inside, plain), strict=True):
            spent = fault_seconds(group)
            if number:
                mine.append(spent)
    yield "fault.nested-vs-flat", "s/GiB", inside, plain
    tool("disable", nested, "--now")


GROUPS: dict[tuple[str, ...], Callable[[], Iterator[Samples]]] = {
    ("restart.layered-vs-plain", "fault.nested-vs-flat"): running,
    ("plan.growth", "plan.1000.vs-systemctl-show"): plan,
    ("plan.rss",): rss,
    ("migrate.1000.vs-shell", "migrate.noop.vs-plan"): writing,
    ("reload.1000", "layer.kernel-memory"): being,
}
"""Small ones first: a fleet only grows."""


def main(names: list[str]) -> None:
    """Measure and print, one after the other."""
    import_all()
    # What goes by itself would hold the lock of all who change the host, and the processor.
    systemctl("stop", "cgroup-layering-reap.timer")
    for group, measure in GROUPS.items():
        if not names or set(group) & set(names):
            for name, what, ours, peer in measure():
                print(json.dumps({"name": name, "unit": what, "ours": ours, "peer": peer}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
