# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write the files of a plan, reload once, read back; whatever does not hold is undone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from cgroup_layering import render
from cgroup_layering.effective.quantities import sentence
from cgroup_layering.effective.readback import ReadBack, read_properties
from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.holding.leaving import stop_holders
from cgroup_layering.holding.names import owner_of
from cgroup_layering.model import Change, Layering, OwnFiles, ServiceFacts, ServicePlan
from cgroup_layering.own import boot_link, drop_in_path, with_folder_created
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import SERVICE, Manager


@dataclass
class Outcome:
    """What a command did, service by service; the halves of a partial success are both listed."""

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    pending: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    stopped: str = ""
    """Why the run ended before all was done, as a sentence."""
    read_back: ReadBack | None = None

    @property
    def ok(self) -> bool:
        """Whether all went as asked; what is pending by plan is no failure."""
        return not self.failed


class _Kind(StrEnum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class _Step:
    """One write: the unit it belongs to, the path, and what was there (None for nothing): a text, a link's target."""

    unit: str
    path: Path
    before: str | None
    kind: _Kind = _Kind.FILE


class FileTransaction:
    """The writes of one run below one unit folder, and how to take them back."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._steps: list[_Step] = []
        self._holder_gone = False

    def write(self, layering: Layering) -> None:
        """Write the files of a layering: the slice first, so that any prefix of the writes is valid.

        A boot link is made after the slice file lists it, and removed before that ceases to.
        """
        texts = render.slice_text(layering), render.drop_in_text(layering)
        self._group(layering.unit, layering.layer, *texts, bool(layering.wanted_by), render.hold_texts(layering))

    def copy(self, own: OwnFiles) -> None:
        """Write the files that a service has elsewhere, in the same order; both must be there."""
        created = not self._store.has_folder(drop_in_path(self._folder, own.unit).parent)
        text = with_folder_created(own.slice_text, created)
        held = {path.name: text for path, text in own.held}
        self._group(own.unit, own.layer, text, own.drop_in_text or "", bool(own.wanted_by), held)

    def _group(
        self, unit: str, layer: str, slice_text: str, drop_in_text: str, at_boot: bool, held: Mapping[str, str]
    ) -> None:
        slice_file, drop_in = self._folder / layer, drop_in_path(self._folder, unit)
        link = boot_link(slice_file)
        former = [path for path, _ in self._store.held(self._folder, unit) if path.name not in held]
        if former and not held:
            # Before its files go the service must not ask for the holder any more.
            self._make_folder(unit, drop_in.parent)
            self._file(unit, drop_in, drop_in_text)
        for path in reversed(former):
            self._remove(unit, path)
        if not at_boot and self._store.has_link(link, slice_file):
            self._steps.append(_Step(unit, link, str(slice_file), _Kind.LINK))
            self._store.remove_link(link, slice_file)
            self._store.remove_folder(link.parent)
        self._file(unit, slice_file, slice_text)
        if at_boot and not self._store.has_link(link, slice_file):
            self._make_folder(unit, link.parent)
            self._steps.append(_Step(unit, link, None, _Kind.LINK))
            self._store.link(link, slice_file)
        # After the slice file that lists them, and before the drop-in that asks for the holder.
        for name, text in held.items():
            self._file(unit, self._folder / name, text)
        self._make_folder(unit, drop_in.parent)
        self._file(unit, drop_in, drop_in_text)

    def stop_holders(self, manager: Manager) -> None:
        """End the holders whose files this has removed; before the reload. Raises BusError."""
        if self._holder_gone:
            stop_holders(manager, self._store)

    def _remove(self, unit: str, path: Path) -> None:
        self._holder_gone |= owner_of(path.name) is not None
        self._steps.append(_Step(unit, path, self._store.read(path)))
        self._store.remove(path)

    def _make_folder(self, unit: str, path: Path) -> None:
        if not self._store.has_folder(path):
            # Noted before it is made, as files are: an error may come after the folder.
            self._steps.append(_Step(unit, path, None, _Kind.FOLDER))
            self._store.make_folder(path)

    def _file(self, unit: str, path: Path, text: str) -> None:
        before = self._store.read(path)
        # Noted before the write: undoing one that did not happen is harmless, missing one is not.
        self._steps.append(_Step(unit, path, before))
        if not self._store.write(path, text):
            self._steps.pop()

    def undo(self, units: Iterable[str] | None = None) -> None:
        """Take back what was written, for all units or for some, the last write first."""
        chosen = None if units is None else set(units)
        kept = []
        for step in reversed(self._steps):
            if chosen is not None and step.unit not in chosen:
                kept.append(step)
            elif step.kind is _Kind.FOLDER:
                self._store.remove_folder(step.path)
            elif step.kind is _Kind.LINK and step.before is None:
                self._store.remove_link(step.path, self._folder / step.path.name)
            elif step.kind is _Kind.LINK:
                self._store.make_folder(step.path.parent)
                self._store.link(step.path, self._folder / step.path.name)
            elif step.before is None:
                self._holder_gone |= owner_of(step.path.name) is not None
                self._store.remove(step.path)
            else:
                self._store.write(step.path, step.before)
        self._steps = kept[::-1]


def write_plan(
    services: Iterable[ServicePlan],
    store: Store,
    folder: Path,
    manager: Manager | None,
    reload: bool,
    facts: Mapping[str, ServiceFacts] = MappingProxyType({}),
) -> tuple[FileTransaction, Outcome]:
    """Write what the plan changes, reload if asked, and read back what systemd makes of it.

    All is undone where a file can't be written or systemd can't reload; a single service is undone where systemd
    does not put it into its slice, or where it would not have what it had (`facts` are those of before). `manager` is
    None for files below a root. `reload` may also be needed when no file changed: a run that was cut off may have left
    that to us.
    """
    services = tuple(services)
    outcome = Outcome()
    transaction = FileTransaction(store, folder)
    changes = [service for service in services if service.change is not Change.NONE and service.layering]
    try:
        if changes:
            store.check_writable(folder)
        with store.folders_at_the_end():
            for service in changes:
                if service.layering is not None:
                    transaction.write(service.layering)
        if manager is not None and reload:
            transaction.stop_holders(manager)
            manager.reload()
    except BaseException:
        transaction.undo()
        if manager is not None and changes and reload:
            reload_quietly(manager)
        raise
    outcome.written = [service.unit for service in changes]
    outcome.unchanged = [service.unit for service in services if service.change is Change.NONE]
    if manager is not None and reload:
        read_back(services, transaction, manager, outcome, facts)
    return transaction, outcome


def reload_quietly(manager: Manager) -> None:
    """After an undo systemd should see the old files; that it can't must not hide the first error."""
    try:
        manager.reload()
    except CgroupLayeringError:
        return


_UNDONE = {
    Change.ADD: "its files were removed again",
    Change.UPDATE: "its files are the former ones again",
    Change.NONE: "its files are as they were",
}


def read_back(
    services: Iterable[ServicePlan],
    transaction: FileTransaction,
    manager: Manager,
    outcome: Outcome,
    facts: Mapping[str, ServiceFacts] = MappingProxyType({}),
) -> None:
    """See that systemd took every `Slice=`, and that all else is as before."""
    wanted = {service.unit: service.layering for service in services if service.layering is not None}
    found = read_properties(manager, wanted)
    read_back_slices({unit: layering.layer for unit, layering in wanted.items()}, transaction, manager, outcome, found)
    right = [layering for unit, layering in wanted.items() if unit not in outcome.failed]
    if not right:
        return
    outcome.read_back = seen = ReadBack(manager, right, found)
    now = {service.unit: _UNDONE[service.change] for service in services}
    lost = {layering.unit: seen.lost(layering, facts.get(layering.unit)) for layering in right}
    for unit, differing in lost.items():
        if differing:
            text = f"{unit} would not be as before in its layer ({sentence(differing)}); {now[unit]}."
            outcome.failed[unit] = text
    undo_units(transaction, manager, outcome, {unit for unit, differing in lost.items() if differing})


def read_back_slices(
    wanted: Mapping[str, str],
    transaction: FileTransaction,
    manager: Manager,
    outcome: Outcome,
    found: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """The `Slice` of units and their layers: what systemd can't take it ignores in silence, and is undone here.

    `found` are properties that were read after the reload already.
    """
    found = manager.properties(wanted, SERVICE, ("Slice",)) if found is None else found
    wrong = {
        unit: str(found[unit].get("Slice", "")) for unit, layer in wanted.items() if found[unit].get("Slice") != layer
    }
    for unit, actual in wrong.items():
        outcome.failed[unit] = (
            f"{unit} would still start in {actual or 'no slice'}, not in {wanted[unit]}; its files were removed again."
        )
    undo_units(transaction, manager, outcome, wrong.keys())


def undo_units(transaction: FileTransaction, manager: Manager, outcome: Outcome, wrong: Collection[str]) -> None:
    """Take back the files of some units, and have systemd forget them."""
    if not wrong:
        return
    transaction.undo(wrong)
    transaction.stop_holders(manager)
    manager.reload()
    outcome.written = [unit for unit in outcome.written if unit not in wrong]
