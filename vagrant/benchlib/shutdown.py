# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a shutdown takes, layered and plain: by the guest's own journal, in turn, each from a boot of its own."""

from __future__ import annotations

import contextlib
import json
import time

from demolib.guest import DemoError, Guest

NAME = "shutdown.vs-plain"
PAIRS = 5
REQUEST = "The system will reboot now"
END = "Journal stopped"
_PATIENCE = 900  # seconds for one reboot


def samples(guest: Guest) -> dict[str, object]:
    """Five pairs, as a line of the guest's other measures. Takes twenty reboots. Raises DemoError."""
    plain: list[float] = []
    layered: list[float] = []
    for number in range(1, PAIRS + 1):
        _reboot(guest)
        plain.append(_seconds(guest))
        guest.run("cgroup-layering migrate --yes --quiet", timeout=600)
        _reboot(guest)  # out of the plain services; the shutdown after this one is that of layered ones
        _reboot(guest)
        layered.append(_seconds(guest))
        guest.run("cgroup-layering rollback --quiet", timeout=600)
        _reboot(guest)
        guest.say(f"shutdown {number} of {PAIRS}: plain {plain[-1]:.1f} s, layered {layered[-1]:.1f} s")
    return {"name": NAME, "unit": "s", "ours": layered, "peer": plain}


def _seconds(guest: Guest) -> float:
    """From the request to journald's last line, in the boot before this one."""
    lines = guest.run("journalctl -b -1 -n 400 -o json --output-fields=MESSAGE --no-pager").splitlines()
    entries = [json.loads(line) for line in lines]
    times = [int(entry["__MONOTONIC_TIMESTAMP"]) for entry in entries]
    begin = next((at for at, entry in zip(times, entries, strict=True) if REQUEST in str(entry["MESSAGE"])), None)
    if begin is None or END not in str(entries[-1]["MESSAGE"]):
        raise DemoError(f"On {guest.suite}, the journal does not tell when the last shutdown began and ended.")
    return (times[-1] - begin) / 1e6


def _boot_id(guest: Guest) -> str:
    return guest.run("cat /proc/sys/kernel/random/boot_id", timeout=30)


def _reboot(guest: Guest) -> None:
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
