# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a service keeps its files: its directories, where its processes work, its private tmpfs mounts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

from cgroup_layering.charges.processes import PROC, mount_namespace, working_directory
from cgroup_layering.errors import KernelFileError
from cgroup_layering.kernel.mounts import mounts

DIRECTORY_PROPERTIES = {
    "RuntimeDirectory": Path("/run"),
    "StateDirectory": Path("/var/lib"),
    "CacheDirectory": Path("/var/cache"),
    "LogsDirectory": Path("/var/log"),
}
"""Properties with names of folders and where these lie (systemd.exec(5)); ConfigurationDirectory= is nobody's data."""

# A process that works in one of these, or above, says nothing of what belongs to it.
_COMMON = frozenset(
    map(Path, ("/srv", "/opt", "/var/lib", "/var/cache", "/var/log", "/var/spool", "/var/mail", "/run", "/usr/local"))
)


def own_folders(properties: Mapping[str, object], pids: Iterable[int], proc: Path = PROC) -> list[Path]:
    """The folders of a service: what its unit names, and below /var/lib and the like where its processes work.

    In: DIRECTORY_PROPERTIES of the unit as D-Bus has them. Out: sorted, none inside another. Folders of DynamicUser=
    are symbolic links to `private`; what they lead to is given.
    """
    found: set[Path] = set()
    for key, base in DIRECTORY_PROPERTIES.items():
        found.update(base / name for name in cast(Sequence[str], properties.get(key) or ()))
    for pid in pids:
        folder = working_directory(pid, proc)
        if folder is not None and folder not in _COMMON and any(folder.is_relative_to(base) for base in _COMMON):
            found.add(folder)
    resolved = sorted({folder.resolve() for folder in found if folder.is_dir()})
    return [folder for folder in resolved if not any(other in resolved for other in folder.parents)]


def private_tmpfs(pids: Iterable[int], proc: Path = PROC) -> list[tuple[Path, Path]]:
    """tmpfs mounts that only these processes see: where they see them, and the way there through /proc."""
    ours = mount_namespace("self", proc)
    found: dict[str, tuple[Path, Path]] = {}
    seen = {ours, ""}
    known = {mount.device for mount in mounts(proc / "self")}
    for pid in pids:
        namespace = mount_namespace(pid, proc)
        if namespace in seen:
            continue
        seen.add(namespace)
        try:
            inside = mounts(proc / str(pid))
        except KernelFileError:  # the process has gone
            continue
        for mount in inside:
            if mount.is_memory and mount.device not in known:
                way = proc / str(pid) / "root" / mount.point.relative_to("/")
                found.setdefault(mount.device, (mount.point, way))
    return list(found.values())


def host_tmpfs(proc: Path = PROC) -> list[Path]:
    """Where tmpfs is mounted on the host, each file system once."""
    found: dict[str, Path] = {}
    for mount in mounts(proc / "self"):
        if mount.is_memory:
            found.setdefault(mount.device, mount.point)
    return list(found.values())
