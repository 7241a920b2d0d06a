# SPDX-License-Identifier: LGPL-2.1-or-later
"""The only writer of files: atomic, below a root that it never leaves, and never through a symlink."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cgroup_layering.own import is_ours
from cgroup_layering.ownfiles import OwnReader
from cgroup_layering.rooted import ForeignFile, StoreError

TEMPORARY = ".cgroup-layering-"
"""Temporary files start so; a crash may leave one, and the next run that writes or removes takes it away."""

ABANDONED = 60.0
"""Seconds after which a temporary file, or half of a layering, is nobody's: another run may be at it now."""

Ours = Callable[[str, Path], bool]
"""Whether the text of a file at a path is the tool's own: a file that is not is never overwritten or removed."""


class Store(OwnReader):
    """The files below a root, read and written."""

    def __init__(self, root: Path = Path("/"), alone: bool = False) -> None:
        super().__init__(root)
        # Who holds the lock is the only one that writes: what is half done then is nobody's.
        self.abandoned = 0.0 if alone else ABANDONED
        self._changed: dict[Path, None] | None = None

    @contextlib.contextmanager
    def folders_at_the_end(self) -> Iterator[None]:
        """Have changed folders reach the disk when all is done, each once, instead of after every change.

        What is in a file is there before its name all the same, and a journal keeps the order of what changes in
        folders: what a power cut leaves is still a beginning of the changes. Raises StoreError.
        """
        changed: dict[Path, None] = {}
        self._changed = changed
        try:
            yield
        finally:
            self._changed = None
        for path in changed:
            with self._translate("write", path), self._folder("write", path) as folder:
                if folder is not None:
                    os.fsync(folder)

    def write(self, path: Path, text: str, ours: Ours = is_ours) -> bool:
        """Write a file of ours atomically, mode 0644, unless it has that text already; whether it changed.

        Its folder must exist. Raises ForeignFile where another's file is there; `ours` tells.
        """
        old = self.read(path)
        if old == text:
            return False
        if old is not None and not ours(old, path):
            raise ForeignFile(path)
        temporary = f"{TEMPORARY}{os.urandom(8).hex()}"
        with self._translate("write", path), self._folder("write", path.parent) as folder:
            if folder is None:
                raise StoreError("write", path, "its folder does not exist")
            try:
                self._write_new(folder, temporary, text.encode(errors="surrogateescape"))
                os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            self._sync(path.parent, folder)
        return True

    @staticmethod
    def _write_new(folder: int, name: str, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())

    def make_folder(self, path: Path) -> bool:
        """Make a folder, mode 0755, below an existing one; whether it is new."""
        with self._translate("make", path), self._folder("make", path.parent) as parent:
            if parent is None:
                raise StoreError("make", path, f"{path.parent} does not exist")
            try:
                os.mkdir(path.name, 0o755, dir_fd=parent)
            except FileExistsError:
                with self._folder("make", path):
                    return False
            with self._folder("make", path) as made:
                if made is not None:
                    os.fchmod(made, 0o755)
            self._sync(path.parent, parent)
            return True

    def remove(self, path: Path, ours: Ours = is_ours) -> bool:
        """Remove a file of ours; whether there was one. Raises ForeignFile, StoreError."""
        text = self.read(path)
        if text is None:
            return False
        if not ours(text, path):
            raise ForeignFile(path)
        with self._translate("remove", path), self._folder("remove", path.parent) as folder:
            if folder is not None:
                os.unlink(path.name, dir_fd=folder)
                self._sync(path.parent, folder)
        return True

    def link(self, path: Path, target: Path) -> bool:
        """Make a symbolic link to `target`, whose folder must exist; whether it is new. Raises ForeignFile."""
        if self.has_link(path, target):
            return False
        with self._translate("write", path), self._folder("write", path.parent) as folder:
            if folder is None:
                raise StoreError("write", path, "its folder does not exist")
            try:
                os.symlink(target, path.name, dir_fd=folder)
            except FileExistsError as error:
                raise ForeignFile(path) from error
            self._sync(path.parent, folder)
        return True

    def remove_link(self, path: Path, target: Path) -> bool:
        """Remove a symbolic link if it points to exactly `target`; whether there was one. Raises StoreError."""
        if not self.has_link(path, target):
            return False
        with self._translate("remove", path), self._folder("remove", path.parent) as folder:
            if folder is not None:
                os.unlink(path.name, dir_fd=folder)
                self._sync(path.parent, folder)
        return True

    def remove_folder(self, path: Path) -> bool:
        """Remove a folder if it is empty; whether it is gone."""
        with self._translate("remove", path), self._folder("remove", path.parent) as parent:
            if parent is None:
                return False
            try:
                os.rmdir(path.name, dir_fd=parent)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                    return False
                raise
            self._sync(path.parent, parent)
            return True

    def _sync(self, path: Path, folder: int) -> None:
        if self._changed is None:
            os.fsync(folder)
        else:
            self._changed[path] = None

    def sweep(self, path: Path, age: float = 0.0) -> None:
        """Remove temporary files that a crash left in a folder, if they are at least `age` seconds old."""
        for name in self.names(path):
            if name.startswith(TEMPORARY):
                with self._translate("remove", path / name), self._folder("remove", path) as folder:
                    if folder is not None:
                        with contextlib.suppress(FileNotFoundError):
                            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
                            if time.time() - facts.st_mtime >= age:
                                os.unlink(name, dir_fd=folder)

    def check_writable(self, path: Path) -> None:
        """See that a folder of unit files can be written to, by writing and removing a temporary file.

        Temporary files that crashes left there go at the same time.
        """
        self.sweep(path, self.abandoned)
        name = f"{TEMPORARY}{os.urandom(8).hex()}"
        with self._translate("write to", path), self._folder("write to", path) as folder:
            if folder is None:
                raise StoreError("write to", path, "the folder does not exist")
            try:
                # A full file system takes an empty file but no data, so a page is written.
                self._write_new(folder, name, b"#" * 4096)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
