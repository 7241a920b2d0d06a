# SPDX-License-Identifier: LGPL-2.1-or-later
"""Method calls to systemd over D-Bus.

They go out with a timeout each, several at a time, without the introspection that pydbus would do for every object
(its proxies also wait for ever by default). When the bus is lost they go on over another connection, and when systemd
leaves it and comes again what it did not answer is asked once more; the bus keeps such calls until it is there.
"""

from __future__ import annotations

import ctypes
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from gi.repository import Gio, GLib

from cgroup_layering.systemd.manager import BusError, BusLost, BusTimeout
from cgroup_layering.systemd.objectpath import MANAGER as PATH
from cgroup_layering.systemd.sparing import bare

NAME = "org.freedesktop.systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
_ONCE = frozenset({"RestartUnit", "TryRestartUnit", "StartTransientUnit"})
"""What must not be asked twice; whether it was done can't be known once the connection is lost on the way."""
Call = tuple[str, str, str, str, Any]
"""A key, and path, interface, method and arguments."""
_WINDOW = 128
"""Calls under way at once: enough to keep the bus busy, far below its limits."""
_QUEUE = 16
"""A call behind so many others gets one more timeout: systemd answers one after the other."""
_NO_ANSWER = (Gio.IOErrorEnum.TIMED_OUT, Gio.IOErrorEnum.CANCELLED)
_GRACE = 5.0
"""Seconds beyond a timeout after which it is not left to GLib to notice it."""


def _keep(connection: Any) -> Any:
    """Keep a connection until the process ends, also while the interpreter is taken down.

    PyGObject lets go of the last reference with the interpreter's lock held. GLib then waits for a lock that its own
    thread holds while that one, handling a message, waits for the interpreter's: a deadlock, seen on Debian 12.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    return connection


class Calls:
    """Calls over one connection; `again` makes another when that is lost, or returns None."""

    def __init__(self, connection: Any, timeout: float, again: Callable[[], Any]) -> None:
        self.connection = _keep(connection)
        self._again = again
        self._timeout = timeout

    def call(
        self,
        method: str,
        arguments: Any,
        reply: str | None,
        timeout: float | None = None,
        interface: str = MANAGER,
        path: str = PATH,
    ) -> Any:
        """The answer to one call, of type `reply`, within `timeout` seconds. Raises BusError (BusTimeout, BusLost)."""
        seconds = self._timeout if timeout is None else timeout
        kind = GLib.VariantType(reply) if reply else None
        self._renew(method)
        for last in (False, True):
            try:
                return self.connection.call_sync(
                    NAME, path, interface, method, arguments, kind, 0, int(seconds * 1000), None
                )
            except GLib.Error as error:
                why = self._translate(error, method, seconds)
                if last or not isinstance(why, BusLost) or method in _ONCE:
                    raise why from error
                self._renew(method)
        raise AssertionError

    def _renew(self, call: str) -> None:
        """Make another connection if this one is lost. Raises BusLost where that fails."""
        if self.connection.is_closed():
            connection = self._again()
            if connection is None:
                raise BusLost(call)
            self.connection = _keep(connection)

    def _translate(self, error: Any, call: str, timeout: float) -> BusError:
        """Turn GLib's error into ours, by the D-Bus error's name where it came over the bus."""
        if any(error.matches(Gio.io_error_quark(), code) for code in _NO_ANSWER):
            return BusTimeout(call, timeout)
        name = Gio.DBusError.get_remote_error(error) or ""
        if name == "org.freedesktop.DBus.Error.NoReply":
            # systemd itself has left the bus, as it does when it is re-executed; both implementations say it so.
            return BusLost(call) if "disconnected" in error.message else BusTimeout(call, timeout)
        if error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.CLOSED) or (not name and self.connection.is_closed()):
            return BusLost(call)
        # strip_remote_error() would strip a copy: Python's bindings pass errors by value.
        return BusError(call, name, error.message.removeprefix(f"GDBus.Error:{name}: "))

    def pipeline(self, calls: Iterable[Call], reply: str) -> Iterator[tuple[str, Any]]:
        """Send many calls; yield `(key, reply or BusError)` as they are answered; again what a lost bus did not.

        Raises BusLost where no connection can be had, BusTimeout where nothing at all is answered for a timeout.
        """
        lost: list[Call] = []
        self._renew("a call")
        for call, answer in self._send(calls, reply):
            if isinstance(answer, BusLost) and call[3] not in _ONCE:
                lost.append(call)
            else:
                yield call[0], answer
        if lost:
            self._renew(f"{lost[0][3]} of {lost[0][0]}")
            yield from ((call[0], answer) for call, answer in self._send(lost, reply))

    def _send(self, calls: Iterable[Call], reply: str) -> Iterator[tuple[Call, Any]]:
        """Send many calls; yield `(call, reply or BusError)` as they are answered.

        So many are always under way that systemd and the bus work on while the caller looks at an answer. Raises
        BusTimeout where nothing at all is answered for a timeout.
        """
        kind = GLib.VariantType(reply)
        context, wait = GLib.MainContext.default(), bare(GLib.MainContext, "iteration")
        milliseconds = int(self._timeout * 1000)
        done: deque[tuple[Call, Any]] = deque()

        def finish(connection: Any, result: Any, call: Call) -> None:
            try:
                done.append((call, connection.call_finish(result)))
            except GLib.Error as error:
                done.append((call, self._translate(error, f"{call[3]} of {call[0]}", self._timeout)))

        given_up = Gio.Cancellable()
        waiting = 0
        last = ""
        source = iter(calls)
        while True:
            for call in islice(source, _WINDOW - waiting):
                _, path, interface, method, arguments = call
                patience = milliseconds * (1 + waiting // _QUEUE)
                self.connection.call(
                    NAME, path, interface, method, arguments, kind, 0, patience, given_up, finish, call
                )
                waiting += 1
                last = method
            if not waiting:
                return
            self._await(done, context, wait, last)
            waiting -= 1
            call, answer = done.popleft()
            if isinstance(answer, BusTimeout):
                # Those behind it will not be answered either.
                given_up.cancel()
                given_up = Gio.Cancellable()
            yield call, answer

    def _await(self, done: deque[Any], context: Any, wait: Callable[[Any, bool], object], method: str) -> None:
        """Until there is an answer. Raises BusTimeout where there is none for a timeout and a bit."""
        if done:
            return
        deadline = time.monotonic() + self._timeout + _GRACE
        # Without it nothing would end the waiting before the first call does.
        alarm = GLib.timeout_add(int((self._timeout + _GRACE) * 1000) + 1, lambda: True)
        try:
            while not done:
                wait(context, True)
                if not done and time.monotonic() > deadline:
                    raise BusTimeout(method, self._timeout)
        finally:
            GLib.source_remove(alarm)
