# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd-oomd: which service it kills, by where ManagedOOM*=kill stands."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.vm.fidelity.guest.kit import Behaviour, Difference, Observation, Run, add_swap, nothing, sh, wait

ONLY_INSTANCE = "ManagedOOM*=kill needs memory figures of the instance, so there is `instance` tracking alone."
NO_CANDIDATE = "The service has no memory figures, so it is no candidate of systemd-oomd and lives on."
PATIENCE = 45
"""Seconds until nothing more is expected: after a kill systemd-oomd rests for 15."""

# Holds so many MiB, most of it in swap.
HOLD = (
    'ExecStart=/usr/bin/python3 -c "import os, time; held = os.urandom({mib} << 20); '
    "open('/run/%N.held', 'w').close(); time.sleep(1000000)\"\n"
)
# Touches more than MemoryHigh= again and again.
THRASH = (
    'ExecStart=/usr/bin/python3 -c "import os; held = bytearray(os.urandom(24 << 20)); '
    "open('/run/%N.held', 'w').close()\\n"
    'while True:\\n for at in range(0, len(held), 4096): held[at] = 1"\n'
)


def begin() -> None:
    """A swap file, and a systemd-oomd that finds a twentieth of it and of memory too much."""
    add_swap(192)
    folder = Path("/etc/systemd/oomd.conf.d")
    folder.mkdir(exist_ok=True)
    (folder / "fidelity.conf").write_text("[OOM]\nSwapUsedLimit=5%\nDefaultMemoryPressureDurationSec=1s\n")
    # Whatever the release sets by default; each behaviour sets its own.
    sh("systemctl set-property --runtime -- -.slice ManagedOOMSwap=auto ManagedOOMMemoryPressure=auto")
    sh("systemctl restart systemd-oomd")


def on_slice(unit: str) -> Callable[[Run, str], None]:
    """Set a property on a slice once all services are up."""

    def setting(run: Run, value: str) -> None:
        sh(["systemctl", "set-property", "--runtime", "--", run.name(unit), value])

    return setting


def victims(units: tuple[str, ...], slice_: str, key: str) -> Callable[[Run], Observation]:
    """Start the services, then let systemd-oomd look; who is left?"""

    def observe(run: Run) -> Observation:
        try:
            for unit in units:
                run.systemctl("start", unit)
                assert wait(Path(f"/run/{run.stem(unit)}.held").exists, 120), f"{unit} does not get its memory"
            if slice_:
                on_slice(slice_)(run, f"{key}=kill")
            wait(lambda: any(run.show(unit, "ActiveState")["ActiveState"] != "active" for unit in units), PATIENCE)
            time.sleep(1)
            seen: Observation = {}
            for unit in units:
                seen[unit] = run.state(unit) | {"journal": run.journal(unit)}
            return seen
        finally:
            if slice_:
                on_slice(slice_)(run, f"{key}=auto")
            run.systemctl("stop", *units, check=False)

    return observe


def _swap(key: str, slice_: str, name: str) -> Behaviour:
    units = (f"big{key}-@V@.service", f"small{key}-@V@.service")
    texts = (HOLD.format(mib=48), HOLD.format(mib=24))
    above = slice_ if slice_.startswith("fid") else "system.slice"
    files = {unit: f"[Service]\nSlice={above}\nMemoryHigh=12M\n{text}" for unit, text in zip(units, texts, strict=True)}
    return Behaviour(
        name,
        files,
        first(victims(units, slice_, "ManagedOOMSwap"), units),
        {"victim": ["big"], "Result": "oom-kill"},
        differs={"service": Difference(frozenset({"victim", "Result", "journal"}), NO_CANDIDATE)},
    )


def first(observe: Callable[[Run], Observation], units: tuple[str, ...]) -> Callable[[Run], Observation]:
    """Who was the victim, and what is said of it."""

    def observed(run: Run) -> Observation:
        seen = observe(run)
        names = ("big", "small") if len(units) > 1 else ("it",)
        return {
            "victim": [name for name, unit in zip(names, units, strict=True) if seen[unit]["ActiveState"] != "active"],
            "Result": seen[units[0]]["Result"],
            "journal": [seen[unit]["journal"] for unit in units],
        }

    return observed


prepare = nothing
BEHAVIOURS = [
    _swap("a", "fidoomd@V@.slice", "ManagedOOMSwap=kill on the service's former slice"),
    _swap("b", "-.slice", "ManagedOOMSwap=kill on -.slice"),
    Behaviour(
        "ManagedOOMSwap=kill on the service",
        {"ownswap-@V@.service": f"[Service]\nManagedOOMSwap=kill\nMemoryHigh=12M\n{HOLD.format(mib=48)}"},
        first(victims(("ownswap-@V@.service",), "", ""), ("ownswap-@V@.service",)),
        {"victim": ["it"], "Result": "oom-kill"},
        only_instance=ONLY_INSTANCE,
    ),
    Behaviour(
        "ManagedOOMMemoryPressure=kill on the service's former slice",
        {
            "press-@V@.service": f"[Service]\nSlice=fidpress@V@.slice\nMemoryHigh=12M\n{THRASH}",
            "fidpress@V@.slice": "[Slice]\nManagedOOMMemoryPressureLimit=1%\n",
        },
        first(victims(("press-@V@.service",), "fidpress@V@.slice", "ManagedOOMMemoryPressure"), ("press-@V@.service",)),
        {"victim": ["it"], "Result": "oom-kill"},
        differs={"service": Difference(frozenset({"victim", "Result", "journal"}), NO_CANDIDATE)},
    ),
    Behaviour(
        "ManagedOOMMemoryPressure=kill on the service",
        {
            "ownpress-@V@.service": "[Service]\nManagedOOMMemoryPressure=kill\nManagedOOMMemoryPressureLimit=1%\n"
            f"MemoryHigh=12M\n{THRASH}",
        },
        first(victims(("ownpress-@V@.service",), "", ""), ("ownpress-@V@.service",)),
        {"victim": ["it"], "Result": "oom-kill"},
        only_instance=ONLY_INSTANCE,
    ),
]
