# SPDX-License-Identifier: LGPL-2.1-or-later
"""/run/cgroup-layering: what has to be known only until the next boot, open to root alone.

It holds the lock of those who change unit files, that of `reap`, the script that takes a try back, and the id of a
migration under way.
What layers are is said by unit files, never by anything here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cgroup_layering.errors import CgroupLayeringError

FOLDER = Path("/run/cgroup-layering")
LOCK = "lock"
REAPING = "reaping"
"""The lock of `reap`, of which one runs at a time: it lets go of the other one while it drains."""
MIGRATING = "migrating"
"""Holds the id of a migration while it writes: one that was killed leaves it, and the next goes on under that id."""
PATIENCE = 300.0
"""Seconds to wait for another run."""
_POLL = 0.2
_SIZE_LIMIT = 4096


class Locked(CgroupLayeringError):
    """Another run of the tool changes this host."""

    hint = "Wait until it is done, then try again."

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder

    def __str__(self) -> str:
        return f"Another run of cgroup-layering is changing this host: {self.holder or 'it does not say which'}."


class RunFolderError(CgroupLayeringError):
    """The folder can't be used."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"Cannot use {self.path}: {self.reason}."


class RunFolder:
    """The folder, made if it is missing. Raises RunFolderError where it is somebody else's or a link."""

    def __init__(self, path: Path = FOLDER, lock: str = LOCK) -> None:
        self.path = path
        self._name = lock
        try:
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            facts = os.fstat(self._fd)
        except OSError as error:
            raise RunFolderError(path, error.strerror or str(error)) from error
        if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o022:
            raise RunFolderError(path, "others than root may write to it")
        self._lock: int | None = None

    def names(self) -> list[str]:
        """The names of the files."""
        return sorted(os.listdir(self._fd))

    def write(self, name: str, text: str, mode: int = 0o600) -> None:
        """Write a file in one step, over an old one. Raises RunFolderError."""
        temporary = f".{name}-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=self._fd), "wb") as file:
                file.write(text.encode(errors="surrogateescape"))
                os.fchmod(file.fileno(), mode)
            os.rename(temporary, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=self._fd)
            raise RunFolderError(self.path / name, (error.strerror or str(error)).lower()) from error

    def read(self, name: str) -> str:
        """The text of a small file, without blanks around it; empty where there is none."""
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
        except OSError:
            return ""
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_SIZE_LIMIT).decode(errors="replace").strip()

    def remove(self, *names: str) -> None:
        """Remove files that may be there. Raises RunFolderError."""
        for name in names:
            try:
                os.unlink(name, dir_fd=self._fd)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise RunFolderError(self.path / name, (error.strerror or str(error)).lower()) from error

    def lock(self, patience: float = PATIENCE, waiting: Callable[[str], object] = lambda _holder: None) -> None:
        """Hold the lock until `unlock` or the end of the process; wait `patience` seconds. May raise Locked.

        `waiting` is called once, with the words of who holds it.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._name, flags, 0o600, dir_fd=self._fd)
        except OSError as error:
            raise RunFolderError(self.path / self._name, (error.strerror or str(error)).lower()) from error
        deadline = time.monotonic() + patience
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = self.read(self._name)
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise Locked(holder) from None
                if not told:
                    waiting(holder)
                told = True
            time.sleep(_POLL)
        words = " ".join(("cgroup-layering", *sys.argv[1:]))[: _SIZE_LIMIT - 64]
        with contextlib.suppress(OSError):  # who holds it is told to others; a full /run can't take that
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{words} (process {os.getpid()})\n".encode(errors="surrogateescape"), 0)
        self._lock = descriptor

    def unlock(self) -> None:
        """Let go of the lock, if it is held."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None
