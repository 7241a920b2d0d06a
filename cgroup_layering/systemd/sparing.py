# SPDX-License-Identifier: LGPL-2.1-or-later
"""Use PyGObject without asyncio, in a process that stays and never runs an event loop of Python's.

PyGObject 3.5x imports asyncio, and that some forty modules and OpenSSL: a tenth of the monitor's memory. All that it
wants of it are two names when it is imported; what it puts around GLib's main loop wants the rest.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

_NAME = "asyncio"


class InvalidStateError(Exception):
    """For PyGObject to raise when it is asked for the result of a call that asyncio was to wait for."""


class _StandIn(ModuleType):
    """What PyGObject gets for asyncio; the first use of anything else in it imports the real one."""

    InvalidStateError = InvalidStateError

    def _get_running_loop(self) -> Any:
        real = sys.modules.get(_NAME, self)
        # Who runs a loop has imported the real one.
        return None if real is self else real._get_running_loop()

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
        return getattr(importlib.import_module(_NAME), name)


@contextlib.contextmanager
def without_asyncio() -> Iterator[None]:
    """What is imported meanwhile has a stand-in for asyncio, if asyncio is not there already."""
    stand_in = _StandIn(_NAME, "asyncio, imported when it is used.")
    sys.modules.setdefault(_NAME, stand_in)
    try:
        yield
    finally:
        if sys.modules[_NAME] is stand_in:
            del sys.modules[_NAME]


def bare(kind: type, method: str) -> Callable[..., Any]:
    """A method of one of GLib's types without what PyGObject puts around it, which is asyncio's loop in 3.5x."""
    found: Callable[..., Any] = next(vars(each)[method] for each in reversed(kind.__mro__) if method in vars(each))
    return found
