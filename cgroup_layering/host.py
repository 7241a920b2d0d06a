# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading a host: its services, their files and their state, from the manager or from a root's files alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

from cgroup_layering.domains.naming import slice_of_layer
from cgroup_layering.errors import CgroupLayeringError, ExitCode
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.model import Host, OwnFiles, Reason, ServiceFacts
from cgroup_layering.naming import is_glob, is_service_name, is_template
from cgroup_layering.obstacles import obstacle
from cgroup_layering.offline import aliases_of, enabled_instances, installed_version, parent_slice, service_facts
from cgroup_layering.own import without_ours
from cgroup_layering.rooted import StoreError
from cgroup_layering.store import Store
from cgroup_layering.systemd import live, oomd
from cgroup_layering.systemd.manager import Manager, UnitRow
from cgroup_layering.unasked import Unasked
from cgroup_layering.unitfile import Setting, UnitFileError, parse, read_text
from cgroup_layering.unitpaths import (
    ETC,
    Listings,
    below,
    drop_in_folders,
    drop_ins,
    drop_ins_in,
    fragment,
    is_masked,
    lookup_dirs,
)

_ROOT = Path("/")


class NoSuchUnit(CgroupLayeringError):
    """A unit that was named is not installed on this host."""

    exit_code = ExitCode.NO_SUCH_UNIT

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(*words)
        self.words = tuple(words)

    def __str__(self) -> str:
        if len(self.words) == 1:
            return f"There is no unit {self.words[0]} on this host."
        return f"There are no units {', '.join(self.words)} on this host."


class Settings(StrEnum):
    """Of which services the resource-control properties that systemd holds are read, where there is a manager."""

    ALL = "all"
    PLAIN = "plain"
    """Of those that are not layered: what they have has to be there afterwards."""
    DOUBTFUL = "doubtful"
    """Of those of them that systemd is asked about anyway; what the others have is in files that it has read."""
    NONE = "none"


class Reader:
    """Reads services below a root, with the help of a manager where there is one."""

    def __init__(self, store: Store, manager: Manager | None, fs: CgroupFS | None = None) -> None:
        self.store = store
        self.manager = manager
        self._fs = fs
        self.dirs = lookup_dirs(store.root, manager.unit_path()) if manager else lookup_dirs(store.root)
        self.own = store.own()
        self._cache: dict[Path, tuple[Setting, ...]] = {}
        self._listings = Listings()
        self._targets: dict[Path, frozenset[str] | None] = {}

    def read(self, words: Sequence[str] = (), folder: Path = ETC, settings: Settings = Settings.ALL) -> Host:
        """The host with the services that `words` name (names or globs), or with all installed ones.

        `folder` is where files would be written: what stands in the way there is noted per service. Raises
        NoSuchUnit where a word means nothing here.
        """
        if self.manager is not None:
            return self._online(self.manager, words, folder, settings)
        return self._offline(words, folder)

    def _online(self, manager: Manager, words: Sequence[str], folder: Path, settings: Settings) -> Host:
        version = manager.version()
        told: dict[str, ServiceFacts] = {}

        def unasked(rows: Iterable[UnitRow]) -> dict[str, frozenset[str]]:
            if settings not in (Settings.DOUBTFUL, Settings.NONE) or self._fs is None:
                return {}
            return self._unasked(manager, self._fs, rows, folder, told)

        wanted = {
            Settings.ALL: lambda _: True,
            Settings.PLAIN: lambda unit: unit not in self.own,
            Settings.DOUBTFUL: lambda unit: unit not in self.own,
        }
        states = live.services(
            manager,
            [w for w in words if not is_glob(w)],
            [w for w in words if is_glob(w)],
            self._installed,
            wanted.get(settings, lambda _: False),
            unasked,
        )
        missing = [w for w in words if not is_glob(w) and states.found(w) is None]
        if missing:
            raise NoSuchUnit(missing)
        services = {}
        for unit, state in states.services.items():
            facts = None if state.service_props else told.get(unit)
            facts = facts or self._from_files(unit, state.names, state.fragment, folder)
            services[unit] = live.merge(facts, state)
        self._check_globs(words, services)
        parents = {name for facts in services.values() for name in (facts.parent, facts.home)}
        host = Host(
            version=version,
            services=services,
            aliases=states.aliases,
            concurrency_slices=live.concurrency_slices(manager, parents, version),
            oom_kill_units=oomd.kill_slices(manager, parents, self.store.root),
            caller_units=live.caller_units(),
        )
        if not manager.default_memory_accounting():
            services = {unit: replace(facts, accounting_default=False) for unit, facts in services.items()}
            return replace(host, services=services)
        return host

    def _unasked(
        self, manager: Manager, fs: CgroupFS, rows: Iterable[UnitRow], folder: Path, told: dict[str, ServiceFacts]
    ) -> dict[str, frozenset[str]]:
        """The services of which nothing is asked, and whom they lean on; `told` gets what their files say."""
        look = Unasked(manager.reading(), self.dirs, self._listings, fs.services())
        if not look.any:
            return {}
        found: dict[str, frozenset[str]] = {}
        for row in rows:
            unit, group = row.name, look.group(row)
            path = fragment(unit, self.dirs, self._listings) if group is not None else None
            if group is None or path is None:
                continue
            folders = drop_in_folders((unit,), self.dirs, self._listings)
            try:
                chain = self._chain(path, drop_ins_in(folders, self._listings))
            except UnitFileError:
                continue
            own = self.own.get(unit)
            ours = any(lines != without_ours(lines) for _, lines in chain)
            leaning = look.leanings(unit, folders, chain) if ours == (own is not None and own.complete) else None
            if leaning is not None:
                found[unit] = leaning
                told[unit] = look.complete(self._from_chain(unit, (unit,), chain, folder), group, chain)
        return found

    def _offline(self, words: Sequence[str], folder: Path) -> Host:
        names: set[str] = set()
        for place in self.dirs:
            names.update(name for name in os.listdir(place) if is_service_name(name))
        names |= enabled_instances(self.dirs)
        names |= {word for word in words if not is_glob(word) and fragment(word, self.dirs) is not None}
        aliases = aliases_of(sorted(names), self.dirs)
        globs = [word for word in words if is_glob(word)]
        missing = [w for w in words if not is_glob(w) and w not in names]
        if missing:
            raise NoSuchUnit(missing)
        chosen = [
            name
            for name in sorted(names)
            if not words or name in words or any(fnmatchcase(name, glob) for glob in globs)
        ]
        services = {}
        for name in chosen:
            if name in aliases:
                facts = ServiceFacts(name, (name,), "alias", service_facts(name, (), ()).files)
            else:
                also = sorted(alias for alias, unit in aliases.items() if unit == name)
                facts = self._from_files(name, (name, *also), None, folder)
            services[name] = facts
        self._check_globs(words, services)
        version = installed_version(self.store.root)
        return Host(version=version, services=services, aliases=aliases, online=False)

    def _from_files(self, unit: str, names: tuple[str, ...], known: Path | None, folder: Path) -> ServiceFacts:
        """What a service's files say, with `parent` computed from them and ours left out."""
        if is_template(unit):
            return ServiceFacts(unit, names, "template", service_facts(unit, (), ()).files)
        path = known or fragment(unit, self.dirs, self._listings)
        pooled = drop_ins(names, self.dirs, self._listings)
        own = self.own.get(unit)
        if path is None or is_masked(unit, self.dirs, self._listings):
            state = "masked" if path is not None else "not-found"
            return replace(service_facts(unit, names, ()), load_state=state, own=own)
        try:
            chain = self._chain(path, pooled)
        except UnitFileError as error:
            blocked = Reason("unreadable", f"{unit} cannot be layered: {error}")
            return replace(service_facts(unit, names, ()), obstacle=blocked, own=own)
        return self._from_chain(unit, names, chain, folder)

    def _chain(self, path: Path, pooled: Iterable[Path]) -> list[tuple[Path, tuple[Setting, ...]]]:
        """A service's file and its drop-ins with what they say. Raises UnitFileError."""
        return [(source, self._settings(source)) for source in (path, *pooled)]

    def _from_chain(
        self, unit: str, names: tuple[str, ...], chain: Sequence[tuple[Path, tuple[Setting, ...]]], folder: Path
    ) -> ServiceFacts:
        own = self.own.get(unit)
        shown = [self._shown(source) for source, _ in chain]
        lines = [without_ours(settings) for _, settings in chain]
        facts = service_facts(unit, names, zip(shown, lines, strict=True))
        return replace(
            facts,
            fragment=chain[0][0],
            parent=parent_slice(unit, facts.files),
            own=own,
            domain=slice_of_layer(own.layer) if own is not None else "",
            drop_in_folder=self._has_folder(folder / f"{unit}.d"),
            obstacle=obstacle(self.store, unit, facts.files, own, folder, shown[1:], self._there(folder)),
        )

    def _installed(self, pattern: str) -> list[str]:
        """The names of services' files that match a glob, of templates and aliases too."""
        names = set().union(*(self._listings.names(folder) for folder in self.dirs))
        return sorted(name for name in names if fnmatchcase(name, pattern) and is_service_name(name))

    def _there(self, folder: Path) -> frozenset[str] | None:
        """What is in the folder that is written to; None where that is not known before each file is looked for."""
        if folder not in self._targets:
            try:
                self._targets[folder] = frozenset(self.store.names(folder))
            except StoreError:
                self._targets[folder] = None
        return self._targets[folder]

    def _has_folder(self, path: Path) -> bool:
        """Whether there is a folder; what stands in its place is an obstacle of one service, not of the host."""
        there = self._there(path.parent)
        try:
            return (there is None or path.name in there) and self.store.has_folder(path)
        except StoreError:
            return False

    def _settings(self, path: Path) -> tuple[Setting, ...]:
        known = self._cache.get(path)
        if known is None:
            known = self._cache[path] = parse(read_text(self._inside(path)), self._shown(path))
        return known

    def _shown(self, path: Path) -> Path:
        """A path as the host below the root will see it: what is written into files must hold there."""
        return path if self.store.root == _ROOT else _ROOT / path.relative_to(self.store.root)

    def _inside(self, path: Path) -> Path:
        """A link in an image points to the image's own files, not to the host's."""
        if self.store.root == _ROOT:
            return path
        for _ in range(32):
            if not path.is_symlink():
                break
            target = path.readlink()
            path = below(self.store.root, target) if target.is_absolute() else path.parent / target
        return path

    @staticmethod
    def _check_globs(words: Iterable[str], services: Iterable[str]) -> None:
        empty = [w for w in words if is_glob(w) and not any(fnmatchcase(unit, w) for unit in services)]
        if empty:
            raise NoSuchUnit(empty)


def own_unit(host: Host, name: str) -> OwnFiles | None:
    """Our files of a service, by its name or an alias."""
    facts = host.services.get(host.aliases.get(name, name))
    return facts.own if facts else None
