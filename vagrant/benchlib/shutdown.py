# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a shutdown takes, layered and plain: by the guest's own kernel, in turn, each from the same snapshot.

Both hosts are booted once and saved as they run; a sample goes back to the saved state and switches it off. The
kernel's clock tells when the request came and when the machine went, on the serial console.
"""

from __future__ import annotations

import contextlib
import re
import time

from demolib.guest import DemoError, Guest, lab
from lablib import vm
from lablib.paths import log_file

from benchlib.booting import check_layers, reboot

NAME = "shutdown.vs-plain"
PAIRS = 9
REQUEST = "bench: the shutdown begins"
END = "reboot: Power down"
_LAYERED, _PLAIN = "bench-layered", "bench-plain"
_PATIENCE = 900  # seconds for one shutdown


def samples(guest: Guest) -> dict[str, object]:
    """Nine pairs, as a line of the guest's other measures. Raises DemoError."""
    _boot(guest, _PLAIN)
    guest.run("cgroup-layering migrate --yes --quiet", timeout=600)
    _boot(guest, _LAYERED)
    seconds: dict[str, list[float]] = {_PLAIN: [], _LAYERED: []}
    for number in range(1, PAIRS + 1):
        for state, found in seconds.items():
            found.append(_shutdown(guest, state))
        plain, layered = seconds[_PLAIN][-1], seconds[_LAYERED][-1]
        guest.say(f"shutdown {number} of {PAIRS}: plain {plain:.2f} s, layered {layered:.2f} s")
    return {"name": NAME, "unit": "s", "ours": seconds[_LAYERED], "peer": seconds[_PLAIN]}


def _boot(guest: Guest, name: str) -> None:
    """Reboot, see where services are, and save the machine as it then runs."""
    reboot(guest)
    check_layers(guest, name == _LAYERED)
    lab("save", guest.suite, name)


def _shutdown(guest: Guest, name: str) -> float:
    """Seconds from the request to the machine's end."""
    lab("restore", guest.suite, name)
    with contextlib.suppress(DemoError):  # the connection is gone before the answer
        guest.run(f"echo '<1>{REQUEST}' > /dev/kmsg; systemctl --no-block poweroff", timeout=30)
    deadline = time.monotonic() + _PATIENCE
    while vm.state(guest.suite) != "shut off":
        if time.monotonic() > deadline:
            raise DemoError(f"{guest.suite} did not shut down within {_PATIENCE} s.")
        time.sleep(0.5)
    return between(log_file(f"console-{guest.suite}").read_text(errors="replace"))


def between(console: str) -> float:
    """Seconds between the two messages of the kernel. Raises DemoError where one is missing."""
    times = []
    for message in (REQUEST, END):
        found = re.search(rf"\[ *(\d+\.\d+)\] {re.escape(message)}", console)
        if found is None:
            raise DemoError(f"The console does not say {message!r}.")
        times.append(float(found[1]))
    return times[1] - times[0]
