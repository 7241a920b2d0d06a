# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files below a root, read without ever following a symlink or leaving the root."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.unitfile import SIZE_LIMIT


class StoreError(CgroupLayeringError):
    """A file could not be read, written or removed."""

    def __init__(self, action: str, path: Path, reason: str, hint: str = "") -> None:
        super().__init__(action, path, reason)
        self.action = action
        self.path = path
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"Cannot {self.action} {self.path}: {self.reason}."


class SymlinkInTheWay(StoreError):
    """A symlink stands where a file or folder of ours belongs."""

    def __init__(self, action: str, path: Path) -> None:
        super().__init__(action, path, "a symbolic link is in the way", "Remove the link, or leave this service plain.")


class ForeignFile(StoreError):
    """A file that is not ours stands where ours belongs."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            "write", path, "a file that cgroup-layering did not write is there", "Move it away, then try again."
        )


class Rooted:
    """Files below `root`; paths are given as the host sees them, such as /etc/systemd/system/a.slice."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def read(self, path: Path) -> str | None:
        """The text of a regular file, or None where there is none. Raises StoreError, SymlinkInTheWay."""
        with self._translate("read", path), self._folder("read", path.parent) as folder:
            if folder is None:
                return None
            try:
                descriptor = os.open(
                    path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
                )
            except FileNotFoundError:
                return None
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise StoreError("read", path, "it is not a regular file")
                return file.read(SIZE_LIMIT).decode(errors="surrogateescape")

    def age(self, path: Path) -> float:
        """Seconds since a file was written; 0 for one that is not there."""
        with self._translate("read", path), self._folder("read", path.parent) as folder:
            if folder is not None:
                with contextlib.suppress(FileNotFoundError):
                    return time.time() - os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mtime
        return 0.0

    def names(self, path: Path) -> list[str]:
        """The names in a folder, sorted; none where it does not exist."""
        with self._translate("list", path), self._folder("list", path) as folder:
            return [] if folder is None else sorted(os.listdir(folder))

    def has_folder(self, path: Path) -> bool:
        """Whether `path` is a folder."""
        with self._translate("read", path), self._folder("read", path) as folder:
            return folder is not None

    def has_link(self, path: Path, target: Path) -> bool:
        """Whether `path` is a symbolic link to exactly `target`; what can't be looked at is none of ours."""
        with contextlib.suppress(OSError, StoreError), self._folder("read", path.parent) as folder:
            return folder is not None and os.readlink(path.name, dir_fd=folder) == str(target)
        return False

    @contextlib.contextmanager
    def _folder(self, action: str, path: Path) -> Iterator[int | None]:
        """A descriptor of a folder below the root, walked without following symlinks; None if missing."""
        if ".." in path.parts:
            raise StoreError(action, path, "the path leaves its folder")
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        descriptor = os.open(self.root, flags)
        try:
            walked = Path("/")
            for part in path.parts[1:]:
                walked /= part
                try:
                    below = os.open(part, flags | os.O_NOFOLLOW, dir_fd=descriptor)
                except FileNotFoundError:
                    yield None
                    return
                except OSError as error:
                    if error.errno in (errno.ELOOP, errno.ENOTDIR) and _is_link(part, descriptor):
                        raise SymlinkInTheWay(action, walked) from error
                    raise
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _translate(self, action: str, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise SymlinkInTheWay(action, path) from error
            raise StoreError(action, path, (error.strerror or str(error)).lower()) from error


def _is_link(name: str, folder: int) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
