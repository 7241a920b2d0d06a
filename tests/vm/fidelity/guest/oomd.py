# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd-oomd: which service it kills, by where ManagedOOM*=kill stands."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
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
    'ExecStart=/usr/bin/python3 -c "import os; held = bytearray(24 << 20)\\n'
    "for at in range(0, len(held), 4096): held[at:at + 4096] = os.urandom(4096)\\n"
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


def _has_it(run: Run, unit: str, watched: bool) -> bool:
    """Whether a service has all its memory; one that is watched itself may be killed before."""
    if Path(f"/run/{run.stem(unit)}.held").exists():
        return True
    return watched and run.show(unit, "ActiveState")["ActiveState"] == "failed"


def victims(
    units: tuple[str, ...], slice_: str, key: str, watched: str = "", value: str = "kill", after: str = "auto"
) -> Callable[[Run], Observation]:
    """Start the services, then let systemd-oomd look; who is left? `watched` is the one that may go, if not any."""

    def observe(run: Run) -> Observation:
        try:
            for unit in units:
                run.systemctl("start", unit)
                assert wait(partial(_has_it, run, unit, not slice_), 120), f"{unit} does not get its memory"
            if slice_:
                on_slice(slice_)(run, f"{key}={value}")
            looked = (watched,) if watched else units
            wait(lambda: any(run.show(unit, "ActiveState")["ActiveState"] != "active" for unit in looked), PATIENCE)
            time.sleep(1)
            seen: Observation = {}
            for unit in units:
                seen[unit] = run.state(unit) | {"journal": run.journal(unit)}
            return seen
        finally:
            if slice_:
                on_slice(slice_)(run, f"{key}={after}")
            run.systemctl("stop", *units, check=False)

    return observe


# Leaves so many MiB in a tmpfs behind, most of it in swap.
LEAVE = "Type=oneshot\nExecStart=/bin/bash -c 'head -c {mib}M /dev/urandom >/dev/shm/%N; touch /run/%N.held'\n"
LEAVER, HOG = "left-@V@.service", "afterwards-@V@.service"


def leftovers(run: Run) -> Observation:
    """What a service that has ended left in swap is more than the hog has, but there is nobody to kill for it."""
    seen: Observation = {}
    try:
        observe = victims((LEAVER, HOG), "fidleft@V@.slice", "ManagedOOMSwap", HOG)
        seen = observe(run)[HOG]
    finally:
        Path(f"/dev/shm/{run.stem(LEAVER)}").unlink(missing_ok=True)
    return {"killed": seen["ActiveState"] == "failed", "Result": seen["Result"], "journal": seen["journal"]}


def rules() -> dict[str, str]:
    """Rules of systemd-oomd by which it kills the largest in swap, or all."""
    return {
        f"/etc/systemd/oomd/rules.d/fid-{action}.oomrule": f"[Rule]\nSwapUsageMax=5%\nAction={action}\n"
        for action in ("kill-by-swap", "kill-all")
    }


def _swap(
    tag: str, slice_: str, name: str, setting: tuple[str, str, str] = ("ManagedOOMSwap", "kill", "auto"), since: int = 0
) -> Behaviour:
    units = (f"big{tag}-@V@.service", f"small{tag}-@V@.service")
    texts = (HOLD.format(mib=48), HOLD.format(mib=24))
    above = slice_ if slice_.startswith("fid") else "system.slice"
    key, value, after = setting
    files = {unit: f"[Service]\nSlice={above}\nMemoryHigh=12M\n{text}" for unit, text in zip(units, texts, strict=True)}
    return Behaviour(
        name,
        files | (rules() if since else {}),
        first(victims(units, slice_, key, "", value, after), units),
        {"victim": ["big"], "Result": "oom-kill"},
        differs={"service": Difference(frozenset({"victim", "Result", "journal"}), NO_CANDIDATE)},
        since=since,
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
    Behaviour(
        "Leftovers of a service that has ended are no victim (an empty layer)",
        {
            LEAVER: f"[Service]\nSlice=fidleft@V@.slice\nMemoryHigh=8M\n{LEAVE.format(mib=56)}",
            HOG: f"[Service]\nSlice=fidleft@V@.slice\nMemoryHigh=12M\n{HOLD.format(mib=36)}",
        },
        leftovers,
        {"killed": True, "Result": "oom-kill"},
        differs={"service": Difference(frozenset({"killed", "Result", "journal"}), NO_CANDIDATE)},
    ),
    _swap(
        "c",
        "fidrules@V@.slice",
        "OOMRules= on the service's former slice, Action=kill-by-swap",
        ("OOMRules", "fid-kill-by-swap", ""),
        since=261,
    ),
    Behaviour(
        "OOMRules= on the service, Action=kill-all",
        {"ownrules-@V@.service": f"[Service]\nOOMRules=fid-kill-all\nMemoryHigh=12M\n{HOLD.format(mib=48)}"} | rules(),
        first(victims(("ownrules-@V@.service",), "", ""), ("ownrules-@V@.service",)),
        {"victim": ["it"], "Result": "oom-kill"},
        only_instance=ONLY_INSTANCE.replace("ManagedOOM*=kill needs", "OOMRules= needs"),
        since=261,
    ),
]
