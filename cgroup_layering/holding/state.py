# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is known of a holder beside its files: what was in memory at the last stop, and how its last run went.

The first is in /var/lib/cgroup-layering, which only root may enter, and lives as long as the declaration is realised;
the second in /run/cgroup-layering. Neither says what is a layer.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cgroup_layering.naming import escape
from cgroup_layering.runfolder import FOLDER as RUN_FOLDER
from cgroup_layering.runfolder import RunFolder, RunFolderError
from cgroup_layering.store import Store

FOLDER = Path("/var/lib/cgroup-layering")
KINDS = ("resident", "parity")
SIZE_LIMIT = 64 << 20
MOST_STRETCHES = 1_000_000
SHOWN = 5
_LONGEST = 400


@dataclass
class Report:
    """How the last run of a holder went: `problems` are failures, `notes` are not. Sentences."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    loaded_bytes: int = 0

    def write(self, owner: str) -> None:
        """Leave it in /run/cgroup-layering. Raises RunFolderError."""
        short = Report(_short(self.problems), _short(self.notes), self.loaded_bytes)
        RunFolder().write(_report_name(owner), json.dumps(asdict(short)) + "\n")


def _short(texts: Sequence[str]) -> list[str]:
    return [text[:_LONGEST] for text in texts[:SHOWN]]


def _report_name(owner: str) -> str:
    return f"hold-{escape(owner)}.json"


def paths(owner: str) -> tuple[Path, ...]:
    """All files with what is known of a holder."""
    kept = (FOLDER / f"{escape(owner)}.{kind}.json" for kind in KINDS)
    return (*kept, RUN_FOLDER / _report_name(owner))


def report_of(owner: str) -> Report | None:
    """What the last run left, since the boot; None if nothing or what can't be read."""
    try:
        said = json.loads(RunFolder().read(_report_name(owner)))
        return Report([str(text) for text in said["problems"]], [str(text) for text in said["notes"]])
    except (RunFolderError, ValueError, KeyError, TypeError):
        return None


def read_state(owner: str, kind: str, folder: Path = FOLDER) -> Any:
    """A JSON document of a holder, or None. Never through a symbolic link."""
    try:
        descriptor = os.open(folder / f"{escape(owner)}.{kind}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(file.read(SIZE_LIMIT))
    return None


def write_state(owner: str, kind: str, document: Any, folder: Path = FOLDER) -> None:
    """Write one in one step. Raises OSError, also where the folder is a link or somebody else's."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            raise PermissionError(1, f"{folder} is another user's")
        draft = f".{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(draft, flags, 0o600, dir_fd=fd), "w") as file:
                json.dump(document, file)
            os.rename(draft, f"{escape(owner)}.{kind}.json", src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=fd)
            raise
    finally:
        os.close(fd)


def forget(store: Store, owner: str) -> None:
    """Remove what is known of a holder, and the folder with the last of it."""
    folder = store.root / str(FOLDER)[1:]
    for kind in KINDS:
        with contextlib.suppress(OSError):
            (folder / f"{escape(owner)}.{kind}.json").unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
    if store.root == Path("/"):
        with contextlib.suppress(RunFolderError):
            RunFolder().remove(_report_name(owner))
