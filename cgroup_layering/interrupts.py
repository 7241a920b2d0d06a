# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signals that ask the program to end: raised wherever it is, until somebody hears of it.

Python drops what is raised while it destroys an object or runs a callback of GLib's (sys.unraisablehook, and
PyErr_Print() with sys.excepthook), and takes care of signals there too: 18 of 60 were lost in a loop that took replies
of D-Bus apart.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import TracebackType
from typing import NoReturn

from cgroup_layering.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_SOON = 0.01
"""Seconds, after which the main thread has left what drops exceptions, or is asked once more."""


def install() -> None:
    """From now on these signals raise Interrupted in the main thread."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    sys.unraisablehook = _unraisable
    sys.excepthook = _uncaught


def _interrupt(number: int, _frame: object) -> NoReturn:
    """Let a running transaction undo itself before the process ends."""
    raise Interrupted(number)


def _unraisable(dropped: sys.UnraisableHookArgs) -> None:
    if isinstance(dropped.exc_value, Interrupted):
        _once_more(dropped.exc_value.number)
    else:
        sys.__unraisablehook__(dropped)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, Interrupted):
        _once_more(error.number)
    else:
        sys.__excepthook__(kind, error, trace)


def _once_more(number: int) -> None:
    thread = threading.main_thread().ident
    if thread is not None:
        timer = threading.Timer(_SOON, signal.pthread_kill, (thread, number))
        timer.daemon = True  # the program may end before
        timer.start()
