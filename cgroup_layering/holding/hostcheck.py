# SPDX-License-Identifier: LGPL-2.1-or-later
"""Can this host realise a declaration? What its text alone does not tell."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.holding.declared import BadHold
from cgroup_layering.holding.matching import TooMany, matches
from cgroup_layering.holding.model import Hold
from cgroup_layering.holding.names import mount_name
from cgroup_layering.kernel.mounts import mounts
from cgroup_layering.own import is_ours
from cgroup_layering.rooted import StoreError
from cgroup_layering.spans import format_size
from cgroup_layering.store import Store
from cgroup_layering.unitpaths import ETC, RUN

_MEMINFO = Path("/proc/meminfo")
_GENERATED = Path("/run/systemd/generator")


def memory(key: str, meminfo: Path = _MEMINFO) -> int:
    """A figure of /proc/meminfo in bytes, such as MemTotal; 0 if it can't be read."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)


def check(hold: Hold, store: Store) -> None:
    """Raises BadHold for the first thing that the host below the store's root does not have or allow."""
    online = store.root == Path("/")
    total = memory("MemTotal") if online else 0
    for keys, size in _sizes(hold):
        if total and size > total:
            raise BadHold(keys, f"{format_size(size)} are more than this host's memory of {format_size(total)}")
    for n, one in enumerate(hold.tmpfs):
        _no_link(store, one.path, ("tmpfs", n, "path"), trusted=True)
        _alone(store, one.path, ("tmpfs", n, "path"), online)
        if one.source:
            _no_link(store, one.source, ("tmpfs", n, "from"), trusted=True)
            if not _is_folder(store.root / one.source[1:]):
                raise BadHold(("tmpfs", n, "from"), f"{one.source} is no folder")
    for n, spec in enumerate(hold.maps):
        if online:
            _no_link(store, spec.pin, ("bpf_maps", n, "pin"), trusted=True)
    for glob in hold.files:
        fixed = "/".join(part for part in _fixed(glob))
        _no_link(store, fixed, ("files",))
    try:
        matches(hold.files, store.root)
    except TooMany as error:
        raise BadHold(("files",), str(error)) from error


def _sizes(hold: Hold) -> list[tuple[tuple[str | int, ...], int]]:
    found: list[tuple[tuple[str | int, ...], int]] = [(("max",), hold.max_bytes)]
    found += [(("tmpfs", n, "size"), one.size) for n, one in enumerate(hold.tmpfs)]
    found += [
        (("bpf_maps", n, "entries"), max(1, one.key + one.value) * one.entries) for n, one in enumerate(hold.maps)
    ]
    whole = sum(one.size for one in hold.tmpfs) + sum(size for keys, size in found if keys[0] == "bpf_maps")
    return [*found, (("tmpfs", 0, "size") if hold.tmpfs else ("bpf_maps", 0, "entries"), whole)]


def _fixed(glob: str) -> list[str]:
    parts = glob.split("/")
    for n, part in enumerate(parts):
        if any(char in part for char in "*?["):
            return parts[:n]
    return parts


def _no_link(store: Store, path: str, keys: tuple[str | int, ...], *, trusted: bool = False) -> None:
    """No symbolic link is on the way; with `trusted` nobody but root could put one there."""
    walked = store.root
    parts = path.strip("/").split("/")
    for number, part in enumerate(parts, 1):
        walked = walked / part
        try:
            facts = os.lstat(walked)
        except OSError:
            return
        shown = f"/{walked.relative_to(store.root)}"
        if stat.S_ISLNK(facts.st_mode):
            raise BadHold(keys, f"{shown} is a symbolic link, and none is followed")
        open_to_others = facts.st_uid not in (0, os.geteuid()) or facts.st_mode & 0o022
        if trusted and number < len(parts) and open_to_others:
            raise BadHold(keys, f"{shown} can be changed by others than root, who could put a link there")


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _alone(store: Store, path: str, keys: tuple[str | int, ...], online: bool) -> None:
    """The mount unit must be ours to write, and what is mounted there ours."""
    ours = False
    for folder in (ETC, RUN):
        file = folder / mount_name(path)
        try:
            text = store.read(file)
        except StoreError as error:
            raise BadHold(keys, str(error).rstrip(".")) from error
        if text is not None and not is_ours(text, file):
            raise BadHold(keys, f"{file} is there, and cgroup-layering did not write it")
        ours |= text is not None
    if store.names(_GENERATED) and mount_name(path) in store.names(_GENERATED):
        raise BadHold(keys, f"{path} is mounted by what /etc/fstab says already")
    try:
        there = [mount for mount in mounts() if str(mount.point) == path] if online and not ours else []
    except CgroupLayeringError:
        there = []
    # One that `disable` left is a tmpfs without a file of ours; anything else is another's.
    if there and there[-1].kind != "tmpfs":
        raise BadHold(keys, f"another file system ({there[-1].kind}) is mounted at {path}")
