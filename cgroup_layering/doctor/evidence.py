# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the checks look at: unit files, systemd and the kernel, each read once, when the first check asks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar, cast

from cgroup_layering.config.load import load
from cgroup_layering.config.model import Config
from cgroup_layering.errors import CgroupLayeringError, HostUnsuitable, KernelFileError
from cgroup_layering.host import NoSuchUnit, Reader
from cgroup_layering.kernel.bpf import PROGRAM, TOOL_PATH
from cgroup_layering.kernel.cgroupfs import CGROUP_ROOT, CgroupFS
from cgroup_layering.kernel.mounts import Mount, mounts
from cgroup_layering.model import Host, OwnFiles, PathRules, ServiceFacts, ServicePlan
from cgroup_layering.naming import is_glob
from cgroup_layering.planner import Request, plan
from cgroup_layering.store import TEMPORARY, Store
from cgroup_layering.systemd.manager import Manager
from cgroup_layering.unitpaths import ETC, RUN, below

T = TypeVar("T")

YOUNG = 60.0
"""Seconds for which a temporary file may belong to a run that goes on."""


class Evidence:
    """One host, or with `connect` None the files below a root. What can't be read raises the same error each time.

    `words` are the units asked for (names or globs), all where there are none; `cgroups`, `proc`, `sys`, `program` and
    `tool_path` are where the kernel and bpftool are looked for.
    """

    def __init__(
        self, store: Store, connect: Callable[[], Manager] | None, words: Sequence[str] = (), *,
        cgroups: Path = CGROUP_ROOT, proc: Path = Path("/proc"), sys: Path = Path("/sys"), program: Path = PROGRAM,
        tool_path: str = TOOL_PATH,
    ) -> None:  # fmt: skip
        self.store = store
        self.online = connect is not None
        self.words = tuple(words)
        self.cgroups = cgroups
        self.proc = proc
        self.sys = sys
        self.program = program
        self.tool_path = tool_path
        self._connect = connect
        self._known: dict[str, object] = {}

    def _once(self, name: str, read: Callable[[], T]) -> T:
        if name not in self._known:
            try:
                self._known[name] = read()
            except CgroupLayeringError as error:
                self._known[name] = error
        found = self._known[name]
        if isinstance(found, CgroupLayeringError):
            raise found
        return cast(T, found)

    def wanted(self, unit: str) -> bool:
        """Whether the unit is among those asked for."""
        return not self.words or any(fnmatchcase(unit, w) if is_glob(w) else unit == w for w in self.words)

    @property
    def manager(self) -> Manager:
        """The system manager. Raises HostUnsuitable, BusTimeout."""
        assert self._connect is not None  # noqa: S101 - checks that need it don't run offline
        return self._once("manager", self._connect)

    @property
    def fs(self) -> CgroupFS:
        """The cgroups. Raises HostUnsuitable where there is no cgroup2 hierarchy."""
        return self._once("fs", lambda: CgroupFS(self.cgroups))

    @property
    def all_own(self) -> dict[str, OwnFiles]:
        """All layerings that our files describe, by unit."""
        return self._once("own", self.store.own)

    @property
    def own(self) -> dict[str, OwnFiles]:
        """The layerings of the units asked for."""
        return {unit: own for unit, own in sorted(self.all_own.items()) if self.wanted(unit)}

    @property
    def reader(self) -> Reader:
        """What reads services. Raises as `manager` does."""
        return self._once("reader", lambda: Reader(self.store, self.manager if self.online else None))

    @property
    def host(self) -> Host:
        """The host with those layered services, among the ones asked for, that are still there."""
        return self._once("host", self._read)[0]

    @property
    def missing(self) -> tuple[str, ...]:
        """Layered services whose unit is gone."""
        return self._once("host", self._read)[1]

    def _read(self) -> tuple[Host, tuple[str, ...]]:
        units = list(self.own)
        gone: tuple[str, ...] = ()
        while units:
            try:
                return self.reader.read(units), gone
            except NoSuchUnit as error:
                gone += error.words
                units = [unit for unit in units if unit not in error.words]
        return Host(0, {}), gone

    @property
    def layered(self) -> list[tuple[OwnFiles, ServiceFacts]]:
        """Each layering and its service, where that is still there."""
        services = self.host.services
        return [(own, services[unit]) for unit, own in self.own.items() if unit in services]

    @property
    def plans(self) -> dict[str, ServicePlan]:
        """What our files of each service should be now, in the folder where they are."""
        return self._once("plans", self._plan)

    def _plan(self) -> dict[str, ServicePlan]:
        found = {}
        for folder in (ETC, RUN):
            for service in plan(self.host, Request(folder=folder)).services:
                own = self.all_own.get(service.unit)
                if own is not None and own.slice_file.parent == folder:
                    found[service.unit] = service
        return found

    @property
    def path_rules(self) -> PathRules:
        """Rules outside of systemd that are keyed on cgroups."""
        from cgroup_layering.pathrules.look import look

        return self._once("path_rules", lambda: look(self.host.services.values(), self.store.root))

    @property
    def config(self) -> Config:
        """The configuration. Raises ConfigError, StoreError."""
        return self._once("config", lambda: load(self.store))

    @property
    def mounts(self) -> list[Mount]:
        """What is mounted. Raises KernelFileError."""
        return self._once("mounts", lambda: mounts(self.proc / "self"))

    @property
    def cgroup_mount(self) -> Mount:
        """The cgroup2 mount that systemd uses. Raises HostUnsuitable where there is none."""
        for mount in self.mounts:
            if mount.kind == "cgroup2" and mount.point == CGROUP_ROOT:
                return mount
        raise HostUnsuitable(f"No cgroup2 file system is mounted at {CGROUP_ROOT}.")

    @property
    def release(self) -> str:
        """The kernel's release, such as 6.12.57+deb13-amd64. Raises KernelFileError."""
        return self.read_proc("sys/kernel/osrelease").strip()

    def read_proc(self, name: str) -> str:
        """The text of a file in /proc. Raises KernelFileError."""
        path = self.proc / name
        try:
            return path.read_text(errors="replace")
        except OSError as error:
            raise KernelFileError(path, error.strerror or str(error)) from error

    def omitted(self, cgroup: str) -> bool:
        """Whether systemd-oomd leaves an empty cgroup alone (src/core/cgroup.c, `cgroup_oomd_xattr_apply`)."""
        try:
            return os.getxattr(self.fs.directory(cgroup), "user.oomd_omit") == b"1"
        except OSError:
            return False

    def temporaries(self, folder: Path) -> list[Path]:
        """Temporary files of ours in a folder that no run can still be writing."""
        found = []
        for name in self.store.names(folder):
            path = folder / name
            try:
                age = time.time() - below(self.store.root, path).lstat().st_mtime
            except OSError:
                continue
            if name.startswith(TEMPORARY) and (age >= YOUNG or not self.online):
                found.append(path)
        return found
