# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `disable` and `rollback` share: take the services of some of our files out of their layers."""

from __future__ import annotations

from collections.abc import Sequence

from cgroup_layering.cli.session import Session
from cgroup_layering.domains.registry import keep_weights
from cgroup_layering.errors import ExitCode
from cgroup_layering.formers import former_layers
from cgroup_layering.holding.state import forget
from cgroup_layering.host import NoSuchUnit
from cgroup_layering.model import Host, OwnFiles, ServiceFacts, Tracking
from cgroup_layering.naming import split_layer
from cgroup_layering.output.plans import show_outcome
from cgroup_layering.output.progress import restarts
from cgroup_layering.output.tables import Output
from cgroup_layering.own import boot_link, drop_in_path
from cgroup_layering.policy import deferrals
from cgroup_layering.removal import remove_files, remove_stray_drop_ins
from cgroup_layering.transaction import Outcome
from cgroup_layering.unitpaths import ETC, RUN
from cgroup_layering.unlayering import Unlayerer


def take_out(session: Session, own: Sequence[OwnFiles], now: bool, timeout: float, output: Output) -> int:
    """Remove the files of `own`; with `now` restart what runs in a layer, with the care that layering it took."""
    outcome = taken_out(session, own, now, timeout, output)
    show_outcome(outcome, output, "Took out of their layers:")
    return ExitCode.OK if outcome.ok else ExitCode.FAILURE


def taken_out(session: Session, own: Sequence[OwnFiles], now: bool, timeout: float, output: Output) -> Outcome:
    """The same, without a word; layers that the services have left before go too."""
    units = {files.unit for files in own}
    own = (*own, *(files for files in former_layers(session.store) if files.unit in units and files not in own))
    for folder in (ETC, RUN):
        if session.store.has_folder(folder):
            session.store.sweep(folder, session.store.abandoned)
        if any(files.slice_file.parent == folder for files in own):
            session.store.check_writable(folder)
    if session.manager is None:
        outcome = Outcome()
        for files in own:
            if remove_files(session.store, files.unit, files.layer):
                outcome.removed.append(files.unit)
            forget(session.store, files.unit)
        outcome.removed = list(dict.fromkeys((*outcome.removed, *remove_stray_drop_ins(session.store))))
        keep_weights(session.store, None, None)
        return outcome
    restart, kept = _sort(session, own, now)
    with restarts(output.quiet) as progress:
        unlayerer = Unlayerer(session.store, session.manager, session.fs, timeout, progress)
        outcome = unlayerer.run(own, restart, kept)
    outcome.removed = list(dict.fromkeys(outcome.removed))
    return outcome


def paths(own: OwnFiles) -> str:
    """What is ours for a service, for a sentence."""
    link = f", {boot_link(own.slice_file)}" if own.linked else ""
    held = "".join(f", {path}" for path, _ in own.held)
    return f"{own.slice_file}{link}{held} and {own.drop_in}"


def leftover(facts: ServiceFacts) -> OwnFiles | None:
    """What an earlier un-layering without --now left: a service that still runs in a layer without files."""
    layer = facts.control_group.rpartition("/")[0].rpartition("/")[2]
    named = split_layer(layer)
    if facts.own is not None or named is None or named[0] != facts.unit:
        return None
    return OwnFiles(
        unit=facts.unit,
        layer=layer,
        tracking=Tracking.INSTANCE,
        lifetime="",
        migration="",
        version="",
        folder_created=False,
        slice_file=ETC / layer,
        drop_in=drop_in_path(ETC, facts.unit),
        slice_text="",
        drop_in_text=None,
    )


def _sort(session: Session, own: Sequence[OwnFiles], now: bool) -> tuple[list[str], dict[str, str]]:
    """Which units to restart, and for the others why not."""
    if not now:
        return [], {}
    units = list(dict.fromkeys(files.unit for files in own))
    restart, kept = [], {}
    host = _read_existing(session, units)
    for facts in host.services.values() if host is not None else ():
        reasons = deferrals(facts, host) if host is not None else ()
        if reasons:
            timing, reason = reasons[0]
            kept[facts.unit] = f"{reason.sentence} It leaves its layer at its {timing}."
        else:
            restart.append(facts.unit)
    return restart, kept


def _read_existing(session: Session, units: Sequence[str]) -> Host | None:
    """The services among `units` that still exist: one that is gone has nothing to restart."""
    try:
        return session.read(units) if units else None
    except NoSuchUnit as error:
        left = [unit for unit in units if unit not in error.words]
        return session.read(left) if left else None
