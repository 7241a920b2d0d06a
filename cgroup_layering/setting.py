# SPDX-License-Identifier: LGPL-2.1-or-later
"""Set properties of a layered service at the level where they belong, and keep them in the unit's own words.

What belongs to the service is systemctl's to set. What belongs to the layer alone is set there live, and the words
that systemd writes for it are put where it would have written them for the service: the layer's own file follows from
these, and the plain service has them when the layer is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.model import OwnFiles
from cgroup_layering.naming import slice_path
from cgroup_layering.properties import Assignment, Level
from cgroup_layering.store import Store
from cgroup_layering.systemd.systemctl import set_properties
from cgroup_layering.unitfile import parse
from cgroup_layering.unitpaths import ETC_CONTROL, RUN_CONTROL, is_control


class HiddenByPersistent(CgroupLayeringError):
    """A setting for this boot that one for good would hide at the next reload."""

    hint = "Set it without --runtime, or remove that file."

    def __init__(self, key: str, path: Path) -> None:
        super().__init__(key, path)
        self.key = key
        self.path = path

    def __str__(self) -> str:
        return f"Cannot set {self.key}= until the next boot: {self.path} sets it for good, and would win."


class Setter:
    """One run of `set-property`. Whoever calls runs an update of the unit afterwards."""

    def __init__(self, store: Store, fs: CgroupFS, own: OwnFiles, control_group: str, runtime: bool) -> None:
        self._store = store
        self._own = own
        self._runtime = runtime
        self._inside = control_group.startswith(slice_path(own.layer) + "/") and fs.exists(control_group)
        # What is set for good replaces what was set for this boot, too.
        self._service_folders = [
            folder / f"{own.unit}.d" for folder in ((RUN_CONTROL,) if runtime else (ETC_CONTROL, RUN_CONTROL))
        ]
        self._layer_folder = RUN_CONTROL / f"{own.layer}.d"

    def run(self, wanted: Mapping[Assignment, Level]) -> None:
        """Set what systemd said it would take. Raises PropertyRefused, StoreError or HiddenByPersistent."""
        unit = self._own.unit
        if self._runtime:
            self._check_hidden({one.key for one in wanted})
        # Outside its layer, a service has the memory controller of its own already.
        moved = [one for one, where in wanted.items() if where is Level.LAYER and self._inside]
        shared = [one for one, where in wanted.items() if where is Level.BOTH and self._inside]
        own = [one for one in wanted if one not in moved]
        if own:
            self._replacing(self._service_folders, unit, own, self._runtime)
        if moved or shared:
            self._replacing([self._layer_folder], self._own.layer, moved + shared, True)
            self._hand_over({one.key for one in moved}, {one.key for one in moved + shared})

    def _check_hidden(self, keys: AbstractSet[str]) -> None:
        for path, text in self._files(ETC_CONTROL / f"{self._own.unit}.d").items():
            for key in sorted(keys & _keys(text, path)):
                raise HiddenByPersistent(key, path)

    def _replacing(self, folders: Iterable[Path], unit: str, assignments: Iterable[Assignment], runtime: bool) -> None:
        """Set them, without what systemd wrote for these keys before: it has two files for a size and a percentage."""
        keys = {one.key for one in assignments}
        old = self._take_away(keys, folders)
        try:
            set_properties(unit, [one.word for one in assignments], runtime)
        except BaseException:
            for path, text in old.items():
                self._store.make_folder(path.parent)
                self._store.write(path, text, is_control)
            raise

    def _take_away(self, keys: AbstractSet[str], folders: Iterable[Path]) -> dict[Path, str]:
        """Remove what systemd wrote for these keys; the texts."""
        old = {}
        for folder in folders:
            for path, text in self._files(folder).items():
                if _within(keys, text, path) and self._store.remove(path, is_control):
                    old[path] = text
            self._store.remove_folder(folder)
        return old

    def _hand_over(self, moved: AbstractSet[str], shared: AbstractSet[str]) -> None:
        """Put systemd's words for the layer where the service's belong, and take them away from the layer."""
        found = self._files(self._layer_folder)
        if moved:
            self._take_away(moved, self._service_folders)
        for path, text in found.items():
            keys = _keys(text, path)
            if keys & moved:
                folder = self._service_folders[0]
                self._store.make_folder(folder.parent)
                self._store.make_folder(folder)
                words = text.replace("[Slice]", "[Service]", 1)
                self._store.write(folder / path.name, words, is_control)
            if keys & shared:
                self._store.remove(path, is_control)
        self._store.remove_folder(self._layer_folder)

    def _files(self, folder: Path) -> dict[Path, str]:
        """What systemd wrote for set-property in a folder."""
        texts = {folder / name: self._store.read(folder / name) for name in self._store.names(folder)}
        return {path: text for path, text in texts.items() if text is not None and is_control(text, path)}


def _within(keys: AbstractSet[str], text: str, path: Path) -> bool:
    """Whether a file sets some of `keys`, and nothing else."""
    return bool(_keys(text, path)) and _keys(text, path) <= keys


def _keys(text: str, path: Path) -> set[str]:
    return {setting.key for setting in parse(text, path)}
