# SPDX-License-Identifier: LGPL-2.1-or-later
"""The only writer of files: atomic, below a root that it never leaves, and never through a symlink."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.holding.names import holder_name, mount_name
from cgroup_layering.model import OwnFiles
from cgroup_layering.naming import split_layer
from cgroup_layering.own import DROP_IN, boot_link, declaration, drop_in_path, facts, is_ours, read_back
from cgroup_layering.unitfile import SIZE_LIMIT
from cgroup_layering.unitpaths import ETC, RUN

TEMPORARY = ".cgroup-layering-"
"""Temporary files start so; a crash may leave one, and the next run that writes or removes takes it away."""

ABANDONED = 60.0
"""Seconds after which a temporary file, or half of a layering, is nobody's: another run may be at it now."""

Ours = Callable[[str, Path], bool]
"""Whether the text of a file at a path is the tool's own: a file that is not is never overwritten or removed."""


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


class Store:
    """Files below `root`; paths are given as the host sees them, such as /etc/systemd/system/a.slice."""

    def __init__(self, root: Path = Path("/"), alone: bool = False) -> None:
        self.root = root
        # Who holds the lock is the only one that writes: what is half done then is nobody's.
        self.abandoned = 0.0 if alone else ABANDONED

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
            os.fsync(folder)
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
            os.fsync(parent)
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
                os.fsync(folder)
        return True

    def has_link(self, path: Path, target: Path) -> bool:
        """Whether `path` is a symbolic link to exactly `target`; what can't be looked at is none of ours."""
        with contextlib.suppress(OSError, StoreError), self._folder("read", path.parent) as folder:
            return folder is not None and os.readlink(path.name, dir_fd=folder) == str(target)
        return False

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
            os.fsync(folder)
        return True

    def remove_link(self, path: Path, target: Path) -> bool:
        """Remove a symbolic link if it points to exactly `target`; whether there was one. Raises StoreError."""
        if not self.has_link(path, target):
            return False
        with self._translate("remove", path), self._folder("remove", path.parent) as folder:
            if folder is not None:
                os.unlink(path.name, dir_fd=folder)
                os.fsync(folder)
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
            os.fsync(parent)
            return True

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

    def own(self) -> dict[str, OwnFiles]:
        """All layerings that our files describe, by unit; a complete one wins, then /etc over /run."""
        found: dict[str, OwnFiles] = {}
        for own in self.all_own():
            if own.unit not in found or (own.complete and not found[own.unit].complete):
                found[own.unit] = own
        return found

    def all_own(self) -> list[OwnFiles]:
        """What each slice file of ours describes: also one that a service left, whose drop-in leads elsewhere now."""
        found = []
        for folder in (ETC, RUN):
            for name in self.names(folder):
                own = self._read_own(folder / name) if split_layer(name) is not None else None
                if own is not None:
                    found.append(own)
        return found

    def _read_own(self, path: Path) -> OwnFiles | None:
        try:
            text = self.read(path)
        except StoreError:
            # Not a file of ours then; whoever wants to write here is told.
            return None
        if text is None:
            return None
        own = read_back(path, text, None)
        if own is None:
            return None
        drop_in = self.own_drop_in(drop_in_path(path.parent, own.unit))
        if drop_in is not None and f"Slice={path.name}" not in drop_in.splitlines():
            drop_in = None
        return read_back(path, text, drop_in, self.has_link(boot_link(path), path), self.held(path.parent, own.unit))

    def held(self, folder: Path, owner: str) -> tuple[tuple[Path, str], ...]:
        """Our holder of a service or domain in a folder, and the mount units that its declaration names; with texts."""
        holder = folder / holder_name(owner)
        text = self._own_unit(holder, owner)
        if text is None:
            return ()
        hold = declaration(text, holder)
        mounts = [folder / mount_name(one.path) for one in hold.tmpfs] if hold is not None else []
        found = [(path, self._own_unit(path, owner)) for path in mounts]
        return ((holder, text), *((path, known) for path, known in found if known is not None))

    def _own_unit(self, path: Path, owner: str) -> str | None:
        """The text of a unit file that says of itself that it is ours and this owner's."""
        try:
            text = self.read(path)
        except StoreError:
            return None
        return text if text is not None and facts(text, path).get("Unit") == owner else None

    def own_drop_in(self, path: Path) -> str | None:
        """The text of a drop-in if it is ours."""
        try:
            text = self.read(path)
        except StoreError:
            return None
        return text if text is not None and is_ours(text, path) else None

    def stray_drop_ins(self) -> list[Path]:
        """Our drop-ins, wherever they are: also those whose slice file is gone."""
        found = []
        for folder in (ETC, RUN):
            for name in self.names(folder):
                if name.endswith(".service.d"):
                    path = folder / name / DROP_IN
                    if self.own_drop_in(path) is not None:
                        found.append(path)
        return found

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
