# SPDX-License-Identifier: LGPL-2.1-or-later
"""Regular files below folders: each once, nothing followed, nothing opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from cgroup_layering.charges.model import FileId
from cgroup_layering.charges.openfile import UnreadableFile, require_regular
from cgroup_layering.charges.processes import Misses


def walk(folder: Path, misses: Misses) -> Iterator[tuple[Path, os.stat_result]]:
    """Regular files below a folder, or the file itself; symbolic links and other file systems are left alone.

    A folder that is reached twice (bind mounts) is looked at once. What can't be read or is gone is noted in `misses`.
    """
    try:
        top = folder.stat()
    except OSError as error:
        misses.note(folder, error)
        return
    if stat.S_ISREG(top.st_mode):
        yield folder, top
        return
    seen = {(top.st_dev, top.st_ino)}
    folders = [str(folder)]
    while folders:
        current = folders.pop()
        try:
            with os.scandir(current) as entries:
                for entry in entries:
                    try:
                        is_folder = entry.is_dir(follow_symlinks=False)
                        if not is_folder and not entry.is_file(follow_symlinks=False):
                            continue
                        status = entry.stat(follow_symlinks=False)
                    except OSError as error:
                        misses.note(entry.path, error)
                        continue
                    if stat.S_ISREG(status.st_mode):
                        yield Path(entry.path), status
                    elif status.st_dev == top.st_dev and (status.st_dev, status.st_ino) not in seen:
                        seen.add((status.st_dev, status.st_ino))
                        folders.append(entry.path)
        except OSError as error:
            misses.note(current, error)


def regular_files(paths: Iterable[Path], misses: Misses) -> Iterator[Path]:
    """The files that are named and those below the folders that are named; hard links count once.

    Raises UnreadableFile for a named path that is neither file nor folder, or that can't be looked up.
    """
    linked: set[FileId] = set()
    for path in paths:
        try:
            status = path.lstat()
        except OSError as error:
            raise UnreadableFile(path, error.strerror or "unknown error") from error
        if not stat.S_ISDIR(status.st_mode):
            require_regular(path, status.st_mode)
        found = walk(path, misses) if stat.S_ISDIR(status.st_mode) else iter([(path, status)])
        for name, status in found:
            if status.st_nlink > 1:
                identity = FileId(status.st_dev, status.st_ino)
                if identity in linked:
                    continue
                linked.add(identity)
            yield name
