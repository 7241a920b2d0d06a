# SPDX-License-Identifier: LGPL-2.1-or-later
"""Configuration files below a root that it never leaves: links and wildcards mean what they mean inside."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

SIZE_LIMIT = 16 << 20
"""Largest file that is read, in bytes."""
_LINKS = 40


class Files:
    """Files by the paths that the host below `root` has for them."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def read(self, path: PurePosixPath) -> str:
        """The text of a regular file. Raises OSError, with EFBIG and EINVAL for what is no such file."""
        descriptor = os.open(self._inside(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            data = file.read(SIZE_LIMIT + 1)
        if len(data) > SIZE_LIMIT:
            raise OSError(errno.EFBIG, f"it has more than {SIZE_LIMIT >> 20} MiB")
        return data.decode(errors="surrogateescape")

    def matching(self, pattern: PurePosixPath) -> list[PurePosixPath]:
        """Paths that a pattern stands for, sorted; a name without wildcards stands for itself if it is there."""
        return sorted(self._expand(PurePosixPath("/"), pattern.parts[1:]))

    def _expand(self, at: PurePosixPath, parts: tuple[str, ...]) -> Iterator[PurePosixPath]:
        if not parts:
            if self._inside(at).exists():
                yield at
            return
        head, *rest = parts
        if not any(char in head for char in "*?["):
            yield from self._expand(at / head, tuple(rest))
            return
        try:
            names = os.listdir(self._inside(at))
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in names:
            # As glob(3): a leading dot is matched by none.
            if fnmatchcase(name, head) and not name.startswith("."):
                yield from self._expand(at / name, tuple(rest))

    def _inside(self, path: PurePosixPath) -> Path:
        """Where a path leads to, an absolute link counted from the root. Raises OSError for a loop."""
        waiting = [*reversed(path.parts[1:])]
        at = self.root
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                at = at if at == self.root else at.parent
            elif (at / part).is_symlink():
                links += 1
                if links > _LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = (at / part).readlink()
                at = self.root if target.is_absolute() else at
                waiting += [part for part in reversed(target.parts) if part != "/"]
            else:
                at = at / part
        return at
