# SPDX-License-Identifier: LGPL-2.1-or-later
"""MemoryMax=, MemoryHigh=, MemoryLow=, MemoryMin=, MemorySwapMax= and zswap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.vm.fidelity.guest.kit import TAGS, Behaviour, Observation, Run, add_swap, keyed, nothing, read, sh, wait

MIB = 1 << 20
DATA = Path("/var/tmp/fidelity")
ZSWAP = Path("/sys/module/zswap/parameters/enabled")

# So many MiB of anonymous memory, written once and in place, half of it zeros so that zswap takes it.
HOLD = (
    'ExecStart=/usr/bin/python3 -c "import os, time; held = bytearray({mib} << 20)\\n'
    "for at in range(0, len(held), 4096): held[at:at + 2048] = os.urandom(2048)\\n"
    "open('/run/%N.held', 'w').close(); time.sleep(1000000)\"\n"
)
READ = "ExecStart=/bin/bash -c 'cat {file} >/dev/null; touch /run/%N.held; exec sleep infinity'\n"


def begin() -> None:
    """Files to read, some of each for every run, and a swap file."""
    DATA.mkdir(exist_ok=True)
    for tag in TAGS.values():
        for kept in ("max", "low", "min", "spread"):
            # What is allocated and not written is read as zeros, and cached like any file.
            sh(f"cd {DATA} && fallocate -l 40M {kept}-{tag} && fallocate -l 24M {kept}-{tag}.other")
            sh(f"cd {DATA} && fallocate -l 160M {kept}-{tag}.hog")
    add_swap(192)
    if ZSWAP.exists():
        ZSWAP.write_text("1")
    sh("sync; echo 1 > /proc/sys/vm/drop_caches")


def held(run: Run, unit: str) -> None:
    """Start a unit and wait until it has got what it wants."""
    run.systemctl("start", unit)
    assert wait(Path(f"/run/{run.stem(unit)}.held").exists, 120), f"{unit} does not get its memory"


def current(run: Run, unit: str, name: str = "memory.current") -> int:
    """A figure of the service as seen from outside."""
    return int(read(run.outer_cgroup(unit) / name))


def ends(observe: Callable[[Run, str], Observation], unit: str) -> Callable[[Run], Observation]:
    """Stop the unit in the end, whatever happens."""

    def observed(run: Run) -> Observation:
        try:
            return observe(run, unit)
        finally:
            run.systemctl("stop", unit, check=False)

    return observed


def at_max(run: Run, unit: str) -> Observation:
    """A file larger than MemoryMax= is read: memory stays below, nobody is killed."""
    held(run, unit)
    events = keyed(run.outer_cgroup(unit) / "memory.events")
    seen: Observation = {
        "within": current(run, unit) <= 24 * MIB,
        "hit": events["max"] > 0,
        "kills": events["oom_kill"],
    }
    return seen | run.state(unit)


def at_high(run: Run, unit: str) -> Observation:
    """More than MemoryHigh= is held: what is over goes to swap, nobody is killed."""
    held(run, unit)
    wait(lambda: current(run, unit) < 26 * MIB, 20)
    events = keyed(run.outer_cgroup(unit) / "memory.events")
    seen: Observation = {"near": 16 * MIB < current(run, unit) < 28 * MIB, "hit": events["high"] > 0}
    seen |= {"kills": events["oom_kill"], "swapped": current(run, unit, "memory.swap.current") > 12 * MIB}
    return seen | run.state(unit)


def at_swap_max(run: Run, unit: str) -> Observation:
    """More is to be swapped than MemorySwapMax= allows."""
    held(run, unit)
    swapped = current(run, unit, "memory.swap.current")
    return {"within": swapped <= 8 * MIB, "near": swapped > 6 * MIB} | run.state(unit)


def in_zswap(run: Run, unit: str) -> Observation:
    """What is swapped by a service that may have no zswap."""
    held(run, unit)
    wait(lambda: current(run, unit, "memory.swap.current") > 12 * MIB, 20)
    zswapped = current(run, unit, "memory.zswap.current")
    return {"swapped": current(run, unit, "memory.swap.current") > 12 * MIB, "in zswap": zswapped > 0} | run.state(unit)


def writeback(run: Run, unit: str) -> Observation:
    """The kernel's own switch."""
    run.systemctl("start", unit)
    return {"writeback": read(run.outer_cgroup(unit) / "memory.zswap.writeback")} | run.state(unit)


def resident(file: Path) -> int:
    """Bytes of a file that are cached."""
    return int(sh(["fincore", "--bytes", "--noheadings", "--output", "RES", str(file)]).stdout)


def protection(kind: str) -> Callable[[Run], Observation]:
    """Reading much under a slice's limit evicts the unprotected service's pages, not the protected one's."""

    def observe(run: Run) -> Observation:
        kept, other, hog = (f"{kind}{suffix}-@V@.service" for suffix in ("kept", "other", "hog"))
        try:
            held(run, other)
            held(run, kept)
            held(run, hog)
            files = (DATA / run.name(f"{kind}-@V@"), DATA / run.name(f"{kind}-@V@.other"))
            return {"protected kept": resident(files[0]) > 36 * MIB, "other kept": resident(files[1]) > 12 * MIB}
        finally:
            run.systemctl("stop", kept, other, hog, check=False)

    return observe


def protected(kind: str, setting: str) -> dict[str, str]:
    """Three services below one slice: a protected one, an unprotected one, and one that reads all the time."""
    # A slice for each kind: a layer keeps what its service has read, and its protection, when the service has stopped.
    below = f"fid{kind}@V@.slice"
    files = {below: "[Slice]\nMemoryMax=96M\n"}
    if kind == "spread":
        files["fidspread@V@-low.slice"] = "[Slice]\nMemoryLow=48M\n"
    for suffix, file in (("kept", ""), ("other", ".other"), ("hog", ".hog")):
        lines = setting if suffix == "kept" else ""
        slice_ = "fidspread@V@-low.slice" if (kind, suffix) == ("spread", "kept") else below
        text = f"[Service]\nSlice={slice_}\n{lines}{READ.format(file=DATA / f'{kind}-@V@{file}')}"
        files[f"{kind}{suffix}-@V@.service"] = text
    return files


def single(
    name: str, lines: str, observe: Callable[[Run, str], Observation], expect: Observation, key: str, **more: object
) -> Behaviour:
    """A behaviour of one service."""
    unit = f"mem{key}-@V@.service"
    # Beyond what both limits leave it a service is slowed down more and more: a little beyond them is enough.
    work = READ.format(file=DATA / "max-@V@") if key == "max" else HOLD.format(mib=28 if key == "swap" else 40)
    text = f"[Service]\n{lines}{work}"
    return Behaviour(name, {unit: text}, ends(observe, unit), {"ActiveState": "active"} | expect, **more)  # type: ignore[arg-type]


def no_zswap() -> str:
    """Why zswap can't be had here, or nothing."""
    return "" if ZSWAP.exists() else "The release's cloud kernel is built without zswap."


def no_writeback() -> str:
    """Why zswap's writeback can't be switched here, or nothing."""
    found = next(Path("/sys/fs/cgroup/system.slice").glob("*/memory.zswap.writeback"), None)
    return "" if found else "The release's cloud kernel is built without zswap, or has no switch for its writeback."


prepare = nothing
BEHAVIOURS = [
    single("MemoryMax= bounds the page cache", "MemoryMax=24M\n", at_max, {"within": True, "hit": True}, "max"),
    single("MemoryHigh= sends the rest to swap", "MemoryHigh=24M\n", at_high, {"near": True, "swapped": True}, "high"),
    single(
        "MemorySwapMax= bounds swap",
        "MemoryHigh=24M\nMemorySwapMax=8M\n",
        at_swap_max,
        {"within": True, "near": True},
        "swap",
    ),
    single(
        "MemoryZSwapMax=0 keeps out of zswap",
        "MemoryHigh=24M\nMemoryZSwapMax=0\n",
        in_zswap,
        {"swapped": True, "in zswap": False},
        "zswap0",
        since=253,
        needs=no_zswap,
    ),
    single(
        "Without MemoryZSwapMax= zswap is used",
        "MemoryHigh=24M\n",
        in_zswap,
        {"swapped": True, "in zswap": True},
        "zswap",
        since=253,
        needs=no_zswap,
    ),
    single(
        "MemoryZSwapWriteback=no",
        "MemoryHigh=24M\nMemoryZSwapWriteback=no\n",
        writeback,
        {"writeback": "0"},
        "writeback",
        since=256,
        needs=no_writeback,
    ),
    *(
        Behaviour(
            name,
            protected(kind, setting),
            protection(kind),
            {"protected kept": True, "other kept": False},
        )
        for kind, name, setting in (
            ("low", "MemoryLow= protects when the slice above is full", "MemoryLow=48M\n"),
            ("min", "MemoryMin= protects when the slice above is full", "MemoryMin=48M\n"),
            ("spread", "MemoryLow= of a slice above protects what is below (memory_recursiveprot)", ""),
        )
    ),
]
