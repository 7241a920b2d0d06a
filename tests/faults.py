# SPDX-License-Identifier: LGPL-2.1-or-later
"""A power cut, or an error of the disk, at the n-th call that changes a file system."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

CALLS = ("open", "rename", "unlink", "mkdir", "rmdir", "fsync", "fchmod", "symlink")


class PowerCut(BaseException):
    """From here on nothing reaches the disk any more, whatever the program tries in its clean-up."""


class Faults:
    """Counts the calls; says whether the fault was reached."""

    def __init__(self) -> None:
        self.calls = 0
        self.struck = False


@contextmanager
def _at(number: int, cut: bool) -> Iterator[Faults]:
    faults = Faults()

    def wrap(name: str, call: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            reading = name == "open" and not args[1] & os.O_CREAT
            if faults.struck and cut and not reading:
                raise PowerCut
            # What can't be removed stays: no undo could help that, so errors are those of writing.
            counted = not reading and (cut or name not in ("unlink", "rmdir"))
            if not faults.struck and counted:
                faults.calls += 1
                if faults.calls == number:
                    faults.struck = True
                    if cut:
                        raise PowerCut
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return call(*args, **kwargs)

        return wrapped

    patches = [mock.patch.object(os, name, wrap(name, getattr(os, name))) for name in CALLS]
    for patch in patches:
        patch.start()
    try:
        yield faults
    except PowerCut:
        pass
    finally:
        for patch in patches:
            patch.stop()


def power_cut(number: int) -> Any:
    """A context in which the power goes before the `number`-th change (1 is the first)."""
    return _at(number, True)


def disk_error(number: int) -> Any:
    """A context in which the `number`-th change, and it alone, fails with ENOSPC."""
    return _at(number, False)
