# SPDX-License-Identifier: LGPL-2.1-or-later
"""All faults by key, in the order of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.vm.guest.strikes import STRIKES

SIGNALS: Mapping[str, str] = {
    "SIGKILL": "kill -9 after the n-th write, rename, fsync, Reload, restart or read-back",
    "SIGTERM": "SIGTERM after the n-th of these",
}


@dataclass(frozen=True)
class Outside:
    """A fault that strikes from outside of the guest, at a random moment of a migration over ssh."""

    title: str
    drop: bool = False
    """Packets are dropped for a while instead of killing the ssh client."""
    power: bool = False
    trial: bool = False
    """With --try: the host has to be as before without anybody's help."""


OUTSIDE: Mapping[str, Outside] = {
    "ssh-cut": Outside("the ssh client is killed"),
    "ssh-drop": Outside("the network of the ssh session is cut", drop=True),
    "power-cut": Outside("power cut (QEMU hard reset)", power=True),
    "try-ssh-cut": Outside("the ssh client is killed during `--try`", trial=True),
    "try-ssh-drop": Outside("the network of the ssh session is cut during `--try`", drop=True, trial=True),
    "try-power-cut": Outside("power cut (QEMU hard reset) during `--try`", power=True, trial=True),
}
TITLES: Mapping[str, str] = {
    **SIGNALS,
    **{key: fault.title for key, fault in OUTSIDE.items()},
    **{key: strike.title for key, strike in STRIKES.items()},
}
