# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bring the layers of a live host up to date: look, decide, write, one reload; never a restart."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from cgroup_layering.domains.registry import keep_weights
from cgroup_layering.errors import KernelFileError
from cgroup_layering.holding.leaving import held_later, left_behind
from cgroup_layering.holding.model import Holds
from cgroup_layering.host import Reader
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.kernel.latch import unlatch
from cgroup_layering.model import Host, OwnFiles, ServicePlan, Timing, Tracking
from cgroup_layering.naming import slice_path, split_layer
from cgroup_layering.own import facts as said
from cgroup_layering.rooted import StoreError
from cgroup_layering.settling import late_limits, settle
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import SERVICE, Manager
from cgroup_layering.transaction import FileTransaction, Outcome, read_back, reload_quietly, write_plan
from cgroup_layering.unitpaths import ETC, RUN
from cgroup_layering.unlayering import Unlayerer
from cgroup_layering.upkeep import Action, Case, Item, Subject, decide


class Updater:
    """One run of `update`, from the look to the end under the lock of those who write unit files."""

    def __init__(
        self, store: Store, manager: Manager, fs: CgroupFS, timeout: float = 60.0, holds: Holds | None = None
    ) -> None:
        """`holds` are the resources that are declared now; None leaves holders as they are."""
        self._holds = holds
        self._store = store
        self._manager = manager
        self._fs = fs
        self._timeout = timeout

    def look(self, units: Collection[str] | None = None) -> list[Item]:
        """What has become of the layerings of `units`, or of all; by unit. Raises BusError, StoreError."""
        whole = self._store.own()
        layered = {unit for unit, files in whole.items() if files.complete}
        every = [*self._store.all_own(), *self._without_slice(layered)]
        chosen = [files for files in every if units is None or files.unit in units]
        primaries = self._primaries({files.unit for files in chosen})
        host = self._read(whole, primaries)
        items = []
        for files in chosen:
            known = whole.get(files.unit, files)
            elsewhere = files != known and known.complete
            if elsewhere and files.layer == known.layer:
                continue  # a copy in /run that /etc hides
            inside, exists = self._populated(files.layer), self._fs.exists(slice_path(files.layer))
            subject = Subject(files, host.services.get(primaries.get(files.unit, "")), inside, exists, elsewhere)
            items.append(decide(subject, host, layered, self._holds))
            if items[-1].action is Action.MOVE:
                layered.add(items[-1].unit)  # two units may have become aliases of one
        return sorted(items, key=lambda item: (item.own.unit, item.own.layer))

    def _primaries(self, units: Iterable[str]) -> dict[str, str]:
        """The primary names of the units that are installed."""
        asked = sorted(units)
        rows = self._manager.load(asked)
        return {unit: row.name for unit, row in zip(asked, rows, strict=True) if row.load_state != "not-found"}

    def _read(self, whole: dict[str, OwnFiles], primaries: dict[str, str]) -> Host:
        reader = Reader(self._store, self._manager)
        for unit, primary in primaries.items():
            # A unit that became an alias: what is ours of it is not in the way of its primary's.
            if unit in whole:
                reader.own.setdefault(primary, whole[unit])
        if primaries:
            return reader.read(tuple(dict.fromkeys(primaries.values())))
        return Host(self._manager.version(), {})

    def _without_slice(self, layered: Collection[str]) -> list[OwnFiles]:
        """Layerings of which somebody took the slice file away, as far as their drop-ins tell."""
        found = []
        for path in self._store.stray_drop_ins():
            text = self._store.own_drop_in(path) or ""
            layer = next((line[6:] for line in text.splitlines() if line.startswith("Slice=")), "")
            unit = said(text, path).get("Unit", "")
            named = split_layer(layer)
            if named is None or named[0] != unit or unit in layered or self._has(path.parent.parent / layer):
                continue
            found.append(
                OwnFiles(unit, layer, Tracking.INSTANCE, "", "", "", False, path.parent.parent / layer, path, "", text)
            )
        return found

    def _has(self, path: Path) -> bool:
        try:
            return self._store.read(path) is not None
        except StoreError:
            return False  # masked by a link, which is as good as gone

    def _populated(self, layer: str) -> bool:
        try:
            return bool(self._fs.events(slice_path(layer)).get("populated"))
        except KernelFileError:
            return False

    def run(self, items: Sequence[Item], reload: bool = False) -> Outcome:
        """Carry out what was decided; `reload` asks for that in any case.

        Raises StoreError or BusError; what is left then is found by a second run.
        """
        outcome = Outcome()
        plans = [item.plan for item in items if item.action in (Action.WRITE, Action.MOVE) and item.plan is not None]
        going = [item for item in items if item.removes]
        unread = [item for item in items if item.action is Action.RELOAD]
        transactions = self._write(items, plans)
        if going:
            # From the first removal on there is no way back, only on: what was written is whole by itself.
            outcome = self._remove(going)
        elif plans or unread or reload:
            try:
                for transaction, _ in transactions.values():
                    transaction.stop_holders(self._manager)
                self._manager.reload()
            except BaseException:
                for transaction, _ in transactions.values():
                    transaction.undo()
                reload_quietly(self._manager)
                raise
        for folder, (transaction, written) in transactions.items():
            outcome.written.extend(written.written)
            mine = [plan for item, plan in _written(items) if item.own.slice_file.parent == folder]
            read_back(mine, transaction, self._manager, outcome)
        for item in unread:
            if item.plan is not None and item.plan.layering is not None:
                self._check_read(item, item.plan.layering.layer, outcome)
        self._after(items, plans, outcome)
        if not going:
            outcome.remarks.extend(keep_weights(self._store, self._manager, self._fs))
        return outcome

    def _write(
        self, items: Sequence[Item], plans: Sequence[ServicePlan]
    ) -> dict[Path, tuple[FileTransaction, Outcome]]:
        done: dict[Path, tuple[FileTransaction, Outcome]] = {}
        try:
            for folder in (ETC, RUN):
                mine = [plan for item, plan in _written(items) if item.own.slice_file.parent == folder]
                if mine:
                    done[folder] = write_plan(mine, self._store, folder, self._manager, reload=False)
        except BaseException:
            for transaction, _ in done.values():
                transaction.undo()
            raise
        for plan in plans:
            if plan.layering is not None:
                unlatch(self._fs.directory(slice_path(plan.layering.layer)))
        return done

    def _remove(self, going: Sequence[Item]) -> Outcome:
        for folder in (ETC, RUN):
            if any(item.own.slice_file.parent == folder for item in going):
                self._store.check_writable(folder)
        kept = {
            item.own.unit: f"{item.own.unit} gets into its new layer at its next start."
            for item in going
            if item.action is Action.MOVE
        }
        unlayerer = Unlayerer(self._store, self._manager, self._fs, self._timeout, lambda *_: None)
        slices = [item.own.layer for item in going if item.slice_only]
        outcome = unlayerer.run([item.own for item in going], (), kept, slices)
        moved = {item.own.unit for item in going if item.action is Action.MOVE}
        outcome.removed = [unit for unit in outcome.removed if unit not in moved]
        return outcome

    def _check_read(self, item: Item, layer: str, outcome: Outcome) -> None:
        found = self._manager.properties([item.unit], SERVICE, ("Slice",))
        actual = str(found[item.unit].get("Slice", ""))
        if actual != layer:
            outcome.failed[item.unit] = f"{item.unit} would start in {actual or 'no slice'}, not in {layer}."
        else:
            outcome.remarks.append(f"systemd has read the files of {item.unit}.")

    def _after(self, items: Sequence[Item], plans: Sequence[ServicePlan], outcome: Outcome) -> None:
        """Limits of live layers on releases that don't write them, and what has to wait."""
        sound = [plan for plan in plans if plan.layering is not None and plan.unit not in outcome.failed]
        layers = {plan.unit: plan.layering.layer for plan in sound if plan.layering is not None}
        outcome.remarks.extend(settle(self._manager, self._fs, layers.values()))
        in_place = [plan.unit for plan in sound if plan.timing is Timing.IN_PLACE]
        outcome.pending.update(late_limits(self._manager, self._fs, in_place))
        for plan in sound:
            if plan.timing not in (Timing.IN_PLACE, Timing.NEXT_START) or plan.reasons:
                outcome.pending.setdefault(plan.unit, f"{plan.unit} gets into its layer at its next start.")
        for item, plan in _written(items):
            if item.case is Case.DECLARED and plan.layering is not None and plan.layering.hold is not None:
                outcome.pending.setdefault(plan.unit, held_later(plan.unit))
            if item.own.hold is not None and (plan.layering is None or plan.layering.hold is None):
                outcome.remarks.extend(left_behind(item.own.hold, self._store))
        for item in items:
            if item.action is Action.WAIT:
                outcome.pending[item.unit] = item.why
            elif item.action is Action.FAIL:
                outcome.failed[item.unit] = item.why


def _written(items: Iterable[Item]) -> list[tuple[Item, ServicePlan]]:
    """The items that write, each with what it writes."""
    return [(item, item.plan) for item in items if item.action in (Action.WRITE, Action.MOVE) and item.plan is not None]
