# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a verb works with: store, manager and kernel files, opened and checked before the first change."""

from __future__ import annotations

import calendar
import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click

from cgroup_layering.host import Reader, Settings
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.model import Host
from cgroup_layering.output.tables import Output
from cgroup_layering.planfile import host_of
from cgroup_layering.removal import last_migration
from cgroup_layering.requirements import check_cgroups, check_root_rights, check_systemd
from cgroup_layering.runfolder import MIGRATING, PATIENCE, RunFolder
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import Manager
from cgroup_layering.unitpaths import ETC, RUN

_ID_TIME = "%Y%m%dT%H%M%SZ"


class Session:
    """One command's view of the host; `root` other than / means files alone.

    With `write` the lock of all who change the host is held, unless `lock` says that no file and no unit is changed;
    `turn` is the name of another one, taken first.
    """

    def __init__(
        self, root: Path = Path("/"), runtime: bool = False, action: str = "", write: bool = False,
        patience: float = PATIENCE, lock: bool = True, turn: str = "",
    ) -> None:  # fmt: skip
        self.root = root.resolve()
        self.online = self.root == Path("/")
        self.folder = RUN if runtime else ETC
        self._fs: CgroupFS | None = None
        self.manager: Manager | None = None
        if runtime and not self.online:
            raise click.UsageError("--runtime makes no sense with --root: an image has no running system.")
        self.run_folder: RunFolder | None = None
        self._patience = patience
        if write:
            check_root_rights(action)
        if self.online:
            from cgroup_layering.systemd.connecting import connect

            self._fs = check_cgroups()
            self.manager = connect()
            check_systemd(self.manager.version())
            if write and turn:
                # Taken before the other one by all who take both.
                self._turn = RunFolder(lock=turn)
                self._turn.lock(patience, _tell_waiting)
            if write and lock:
                # Held until the process ends: two runs would undo each other's steps.
                self.run_folder = RunFolder()
                self.run_folder.lock(patience, _tell_waiting)
        self.store = Store(self.root, alone=self.run_folder is not None)

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Let others change the host for a while: what was read before need not hold after. Raises Locked."""
        assert self.run_folder is not None  # noqa: S101 - only who has the lock lets go of it
        self.run_folder.unlock()
        try:
            yield
        finally:
            self.run_folder.lock(self._patience, _tell_waiting)

    @property
    def fs(self) -> CgroupFS:
        """The host's cgroups; only there online."""
        assert self._fs is not None  # noqa: S101 - callers check `online`
        return self._fs

    def read(
        self,
        words: Sequence[str] = (),
        follow_aliases: bool = False,
        path_rules: bool = False,
        settings: Settings = Settings.ALL,
    ) -> Host:
        """The host with the services named by `words`, or with all of them.

        An alias stands for itself (and is refused where something is to be written), unless it is to be followed.
        With `path_rules`, rules that are keyed on cgroups are looked for too. `settings` says whose resource-control
        properties are needed.
        """
        reader = Reader(self.store, self.manager, self._fs)
        host = reader.read(words, self.folder, settings)
        if path_rules:
            from cgroup_layering.pathrules.look import look

            host = replace(host, path_rules=look(host.services.values(), self.root))
        if follow_aliases and any(word in host.aliases for word in words):
            return reader.read(tuple(dict.fromkeys(host.aliases.get(word, word) for word in words)), self.folder)
        return host

    def host_id(self) -> str:
        """What tells this host from others, without its machine id."""
        try:
            return host_of((self.root / "etc/machine-id").read_text(errors="replace"))
        except OSError:
            return host_of("")

    def new_migration(self) -> str:
        """An id for a migration that sorts behind all that are on this host, even if the clock went back.

        If a former migration was killed while it wrote, this one goes on with it, under its id.
        """
        cut_off = self.run_folder.read(MIGRATING) if self.run_folder is not None else ""
        if cut_off and any(files.migration == cut_off for files in self.store.own().values()):
            return cut_off
        stamp = time.strftime(_ID_TIME, time.gmtime())
        last = last_migration(self.store.own().values()).partition("-")[0]
        if last >= stamp:
            seconds = calendar.timegm(time.strptime(last, _ID_TIME)) + 1
            stamp = time.strftime(_ID_TIME, time.gmtime(seconds))
        return f"{stamp}-{secrets.token_hex(4)}"


def _tell_waiting(holder: str) -> None:
    Output().say(f"Waiting for another run: {holder or 'it does not say which'}.")
