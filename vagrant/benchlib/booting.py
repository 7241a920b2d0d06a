# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a boot takes, layered and plain, in turn; and reboots for whoever needs one."""

from __future__ import annotations

import contextlib
import time

from demolib.guest import DemoError, Guest

NAME = "boot.layered-vs-plain"
PAIRS = 5
TARGET = "multi-user.target"
_PATIENCE = 900  # seconds for one reboot


def samples(guest: Guest) -> dict[str, object]:
    """Pairs of boots of a host with every service layered and of the same host plain. Raises DemoError."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for number in range(1, PAIRS + 1):
        for layered, found in seconds.items():
            verb = "migrate --yes --quiet" if layered else "rollback --quiet"
            guest.run(f"cgroup-layering {verb}", timeout=600)
            reboot(guest)
            check_layers(guest, layered)
            found.append(_boot_seconds(guest))
        guest.say(f"boot {number} of {PAIRS}: plain {seconds[False][-1]:.2f} s, layered {seconds[True][-1]:.2f} s")
    return {"name": NAME, "unit": "s", "ours": seconds[True], "peer": seconds[False]}


def _boot_seconds(guest: Guest) -> float:
    """From the start of systemd to multi-user.target, in seconds."""
    begin = guest.run("systemctl show --value -p UserspaceTimestampMonotonic")
    end = guest.run(f"systemctl show --value -p ActiveEnterTimestampMonotonic {TARGET}")
    if not 0 < int(begin) < int(end):
        raise DemoError(f"{guest.suite} says that it came up at {end} µs, and systemd began at {begin} µs.")
    return (int(end) - int(begin)) / 1e6


def check_layers(guest: Guest, layered: bool) -> None:
    """See that services run in layers, or that none does. Raises DemoError."""
    inside = int(guest.run("systemctl show -p ControlGroup '*.service' | grep -c '\\.service\\.slice/' || true"))
    if (inside > 0) != layered:
        raise DemoError(f"{guest.suite} has {inside} services in layers; it should be {'some' if layered else 'none'}.")


def reboot(guest: Guest) -> None:
    """Reboot, and wait until nothing is left to be started. Raises DemoError."""
    before = _boot_id(guest)
    with contextlib.suppress(DemoError):  # the connection is gone before the answer
        guest.run("systemctl reboot", timeout=30)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        time.sleep(3)
        try:
            if _boot_id(guest) != before:
                guest.run("systemctl is-system-running --wait || true", timeout=_PATIENCE)
                return
        except DemoError:
            continue
    raise DemoError(f"{guest.suite} did not come back within {_PATIENCE} s.")


def _boot_id(guest: Guest) -> str:
    return guest.run("cat /proc/sys/kernel/random/boot_id", timeout=30)
