# SPDX-License-Identifier: LGPL-2.1-or-later
"""Signals that ask the program to end: raised wherever it is, until somebody hears of it.

Python drops what is raised while it destroys an object or runs a callback of GLib's (sys.unraisablehook, and
PyErr_Print() with sys.excepthook), and takes care of signals there too: 18 of 60 were lost in a loop that took replies
of D-Bus apart.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from types import FrameType, TracebackType

from cgroup_layering.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_SOON = 0.01
"""Seconds, after which the program has left what drops exceptions, or is asked once more."""


def install() -> None:
    """From now on these signals raise Interrupted in the main thread."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    sys.unraisablehook = _unraisable
    sys.excepthook = _uncaught


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Let a running transaction undo itself before the process ends."""
    # What is raised in a hook is dropped for good.
    if _in_hook(frame):
        _once_more(number)
    else:
        raise Interrupted(number)


def _in_hook(frame: FrameType | None) -> bool:
    hooks = (_unraisable.__code__, _uncaught.__code__)
    while frame is not None and frame.f_code not in hooks:
        frame = frame.f_back
    return frame is not None


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
    # Not threading: its start() waits for the thread, in the hook and with what that asks for on its way.
    thread = threading.main_thread().ident
    if thread is not None:
        _thread.start_new_thread(_ask, (thread, number))


def _ask(thread: int, number: int) -> None:
    time.sleep(_SOON)
    signal.pthread_kill(thread, number)
