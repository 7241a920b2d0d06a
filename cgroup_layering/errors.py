# SPDX-License-Identifier: LGPL-2.1-or-later
"""Exceptions that carry data, and the exit codes that go with them.

Every exception keeps its facts in attributes and builds its sentence in `__str__`: what is wrong, with which
unit or file, and (in `hint`) what to do. Only the command line turns them into output.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a tenth of the time that --help takes
    from pathlib import Path


class ExitCode(IntEnum):
    """Exit codes of the command line, as systemctl(1) and LSB use them."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_RUNNING = 3
    NO_SUCH_UNIT = 4


class CgroupLayeringError(Exception):
    """Base of every error that a person is told about in one sentence."""

    exit_code: ExitCode = ExitCode.FAILURE
    hint: str = ""


class Interrupted(BaseException):
    """A signal asks the program to end; on its way up it lets transactions undo themselves.

    Not a KeyboardInterrupt: click would turn that into its Abort, which means that nothing was changed.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class NotPrivileged(CgroupLayeringError):
    """The caller lacks the rights that the command needs."""

    hint = "Run it as root, for example with sudo."

    def __init__(self, action: str) -> None:
        super().__init__(action)
        self.action = action

    def __str__(self) -> str:
        return f"Root rights are needed to {self.action}."


class HostUnsuitable(CgroupLayeringError):
    """The host cannot be layered: no systemd, no cgroup v2, no memory controller ..."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return self.reason


class KernelFileError(CgroupLayeringError):
    """A kernel file could not be read or understood."""

    def __init__(self, path: Path, reason: str, line: str | None = None) -> None:
        super().__init__(path, reason, line)
        self.path = path
        self.reason = reason
        self.line = line

    def __str__(self) -> str:
        where = f"{self.path}, line {self.line!r}" if self.line is not None else f"{self.path}"
        return f"Cannot read {where}: {self.reason}."
