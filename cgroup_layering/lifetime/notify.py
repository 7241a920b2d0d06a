# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a daemon tells systemd: READY=1, STATUS=, and a watchdog that is only wound up while there is work.

A daemon that pings its watchdog wakes up for nothing else. Ours is off (WATCHDOG_USEC=0, sd_notify(3)) while the
process sleeps in poll(2), where nothing of ours can hang, and on, with the time that WatchdogSec= gives, for each
piece of work.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


class Service:
    """The unit that this process runs in; where there is none, nothing is told to anybody."""

    def __init__(self) -> None:
        from systemd import daemon

        self._notify = daemon.notify
        self._watchdog = int(os.environ.get("WATCHDOG_USEC", "0"))
        self._status = ""

    def ready(self) -> None:
        """The first look was taken."""
        self._notify("READY=1")

    def stopping(self) -> None:
        """The end is near."""
        self._notify("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        if text != self._status:
            self._notify(f"STATUS={text}")
        self._status = text

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """The watchdog runs meanwhile."""
        if self._watchdog:
            self._notify(f"WATCHDOG_USEC={self._watchdog}\nWATCHDOG=1")
        try:
            yield
        finally:
            if self._watchdog:
                self._notify("WATCHDOG_USEC=0")
