# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tmpfs mounts of a declaration: systemd mounts them, this fills them, and makes strays in them anew."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path

from cgroup_layering.charges.files import Attributor
from cgroup_layering.charges.openfile import UnreadableFile, open_regular
from cgroup_layering.holding.model import Hold, Tmpfs
from cgroup_layering.holding.state import Report
from cgroup_layering.kernel.mounts import mounts
from cgroup_layering.rehoming.cache import evict, resident
from cgroup_layering.rehoming.tmpfs import PREFIX, open_folder, recopy

_SECONDS = 120.0
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
STAGE = f"{PREFIX}filling-"


def ready(hold: Hold, inside: Collection[int], report: Report) -> None:
    """Bring every tmpfs to its size, fill an empty one, and copy anew what is charged elsewhere where that is asked."""
    kinds = {str(mount.point): mount.kind for mount in mounts()}
    for one in hold.tmpfs:
        if kinds.get(one.path) != "tmpfs":
            report.problems.append(f"No tmpfs is mounted at {one.path}; see `systemctl status {one.path}`.")
            continue
        try:
            _resize(one)
            if one.source:
                fill(one)
            if one.remake:
                _remake(one, inside, report)
        except (OSError, subprocess.SubprocessError) as error:
            report.problems.append(f"{one.path} is not as declared: {str(error).rstrip('.')}.")


def _resize(one: Tmpfs) -> None:
    facts = os.statvfs(one.path)
    wanted = -(-one.size // facts.f_frsize)
    if facts.f_blocks != wanted:
        _run("/usr/bin/mount", "-o", f"remount,size={one.size}", one.path)


def _run(*command: str, keep: int | None = None) -> None:
    """Run a command, which has the descriptor `keep` too. Raises OSError."""
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=_SECONDS,
        pass_fds=() if keep is None else (keep,),
    )
    if done.returncode:
        raise OSError((done.stderr.strip().splitlines() or [f"{command[0]} failed"])[-1])


def fill(one: Tmpfs) -> None:
    """Copy the source's contents into an empty tmpfs; a copy that was cut off is begun anew. Raises OSError.

    The tmpfs can be a service's own, who may rename what is in it: all is done through descriptors of folders, and what
    is copied stays in one that root alone may enter until it is whole.
    """
    top = open_folder(Path(one.path))
    try:
        names = os.listdir(top)
        stages = [name for name in names if name.startswith(STAGE)]
        if len(names) > len(stages) and not stages:
            return
        for name in stages:
            shutil.rmtree(name, dir_fd=top)
        cold = [path for path in files_of(one.source) if not _resident(path)]
        name = STAGE + secrets.token_hex(8)
        os.mkdir(name, 0o700, dir_fd=top)
        stage = os.open(name, _FOLDER, dir_fd=top)
        try:
            _copy_contents(one.source, stage, top)
        finally:
            os.close(stage)
        for path in cold:
            # Its copy is in memory now: nobody needs it there twice.
            _resident(path, drop=True)
        shutil.rmtree(name, dir_fd=top)
    finally:
        os.close(top)


def _copy_contents(source: str, stage: int, top: int) -> None:
    facts = os.fstat(stage)
    if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) != 0o700:
        raise OSError("somebody changed the folder that it is copied to")
    _run("/usr/bin/cp", "--archive", "--one-file-system", "--", f"{source}/.", f"/proc/self/fd/{stage}/c", keep=stage)
    contents = os.open("c", _FOLDER, dir_fd=stage)
    try:
        there = set(os.listdir(top))
        for name in os.listdir(contents):
            if name not in there:
                os.rename(name, name, src_dir_fd=contents, dst_dir_fd=top)
    finally:
        os.close(contents)


def _resident(path: Path, *, drop: bool = False) -> bool:
    """Whether a part of a file is in memory; with `drop` it is evicted."""
    try:
        fd = open_regular(path)
    except UnreadableFile:
        return False
    try:
        size = os.fstat(fd).st_size
        return bool(evict(fd, size).before if drop else resident(fd, size))
    finally:
        os.close(fd)


def _remake(one: Tmpfs, inside: Collection[int], report: Report) -> None:
    paths = list(files_of(one.path))
    with Attributor() as attributor:
        found = list(attributor.charges(paths, on_error=lambda _error: None))
    for charges in found:
        if any(count and inode not in inside for inode, count in charges.owners.items()):
            try:
                recopy(charges.path, (charges.device, charges.inode))
            except (OSError, UnreadableFile) as error:
                report.notes.append(f"{charges.name} stays where it is charged: {str(error).rstrip('.')}.")


def files_of(top: str) -> Iterator[Path]:
    """The regular files of a tmpfs, drafts of ours left out."""
    device = os.lstat(top).st_dev
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if Path(folder, name).lstat().st_dev == device]
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and not name.startswith(PREFIX):
                yield path
