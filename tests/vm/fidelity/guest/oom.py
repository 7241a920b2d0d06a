# SPDX-License-Identifier: LGPL-2.1-or-later
"""OOMPolicy= and the kernel's OOM killer, by whose limit it was called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.vm.fidelity.guest.kit import Behaviour, Difference, Observation, Run, keyed, nothing, read, sh, wait

# A child that eats all it gets, and would be the first to go on the whole host; the main process only waits.
HOG = "echo 1000 >/proc/self/oom_score_adj; exec tail /dev/zero"
CHILD = f"ExecStart=/bin/bash -c '(while ! [ -e /run/%N.go ]; do sleep 0.2; done; {HOG}) & sleep infinity'"
MAIN = f"ExecStart=/bin/bash -c 'while ! [ -e /run/%N.go ]; do sleep 0.2; done; {HOG}'"
LIMIT = "MemoryMax=24M\nMemorySwapMax=0\n"
FILLER = Path("/dev/shm/filler")
ROOM = 96 << 10
"""KiB that are left to the host before it is to run out."""


def kills() -> int:
    """How often the kernel's OOM killer has killed since boot."""
    return keyed(Path("/proc/vmstat"))["oom_kill"]


def outcome(run: Run, unit: str) -> Observation:
    """Let the hog go, wait for its end and for what follows of it."""
    before = kills()
    go = Path(f"/run/{run.stem(unit)}.go")
    go.write_text("")
    killed = wait(lambda: kills() > before, 120)
    go.unlink()
    assert killed, f"{unit}: the hog is not killed"
    # Nothing may follow; so there is no event to wait for.
    wait(lambda: run.show(unit, "ActiveState")["ActiveState"] in ("failed", "inactive"), 3)
    seen = run.state(unit, "NRestarts", "ExecMainStatus") | {"journal": run.journal(unit)}
    run.systemctl("stop", unit)
    return seen


def service_limit(run: Run, unit: str) -> None:
    """The limit is in the unit's file already."""


def layer_limit(run: Run, unit: str) -> None:
    """The limit is the layer's alone; plain there is none, so it is the service's."""
    sh(["systemctl", "set-property", "--runtime", run.outer(unit), "MemoryMax=24M", "MemorySwapMax=0"])


def host_limit(run: Run, unit: str) -> None:
    """The host itself has little left: a file in a tmpfs takes what is free."""
    available = int(next(line for line in read(Path("/proc/meminfo")).splitlines() if "MemAvail" in line).split()[1])
    sh(f"mount -o remount,size=100% {FILLER.parent}")
    sh(f"head -c {max(0, available - ROOM)}K /dev/zero >> {FILLER}")


def observer(unit: str, before: Callable[[Run, str], None]) -> Callable[[Run], Observation]:
    """Start the unit, call for the limit, let the hog go."""

    def observe(run: Run) -> Observation:
        run.systemctl("start", unit)
        try:
            before(run, unit)
            return outcome(run, unit)
        finally:
            FILLER.unlink(missing_ok=True)

    return observe


LOST = "systemd is not told of the OOM kill, so {} has no effect: the rest of the service lives on."
UNNAMED = "systemd is not told of the OOM kill: the main process died of a signal to it, and Result= says `signal`."
UNSAID = "The journal has no line about the OOM killer for the service."

PLACES = {
    "the service's limit": (service_limit, "system.slice", LIMIT),
    "the layer's limit": (layer_limit, "system.slice", ""),
    "the limit of the slice above": (service_limit, "oomabove.slice", ""),
    "the host's limit": (host_limit, "system.slice", ""),
}


def _behaviours() -> list[Behaviour]:
    found = []
    for number, (place, (before, above, limit)) in enumerate(PLACES.items()):
        for policy in ("continue", "stop", "kill"):
            unit = f"oom{policy}{number}-@V@.service"
            text = f"[Service]\nSlice={above}\nOOMPolicy={policy}\n{limit}{CHILD}\n"
            keys = {"journal"} if policy == "continue" else {"journal", "ActiveState", "SubState", "Result"}
            keys |= set() if policy == "continue" else {"tasks left", "ExecMainStatus"}
            found.append(
                Behaviour(
                    f"OOMPolicy={policy}, a child killed by {place}",
                    {unit: text, "oomabove.slice": f"[Slice]\n{LIMIT}"},
                    observer(unit, before),
                    {"ActiveState": "active", "Result": "success", "tasks left": 2}
                    if policy == "continue"
                    else {"ActiveState": "failed", "Result": "oom-kill", "tasks left": 0},
                    differs={
                        "service": Difference(
                            frozenset(keys), UNSAID if policy == "continue" else LOST.format(f"OOMPolicy={policy}")
                        )
                    },
                )
            )
        unit = f"oommain{number}-@V@.service"
        found.append(
            Behaviour(
                f"The main process killed by {place}",
                {unit: f"[Service]\nSlice={above}\n{limit}{MAIN}\n", "oomabove.slice": f"[Slice]\n{LIMIT}"},
                observer(unit, before),
                {"ActiveState": "failed", "Result": "oom-kill", "tasks left": 0},
                differs={"service": Difference(frozenset({"Result", "journal"}), UNNAMED)},
            )
        )
    return found


prepare = begin = nothing
BEHAVIOURS = _behaviours()
