# SPDX-License-Identifier: LGPL-2.1-or-later
"""What `migrate --try`, `confirm` and `rollback` share: the trial's start, its end, and the wait in between."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Iterable, Mapping
from enum import StrEnum

from cgroup_layering.cli.session import Session
from cgroup_layering.effective.readback import read_properties
from cgroup_layering.effective.settings import PROPERTIES
from cgroup_layering.model import OwnFiles, ServicePlan
from cgroup_layering.moving import run_jobs
from cgroup_layering.output.tables import Output
from cgroup_layering.removal import remove_files
from cgroup_layering.runfolder import RunFolder
from cgroup_layering.systemd.manager import SLICE, UNIT, Manager
from cgroup_layering.transaction import FileTransaction, Outcome, read_back_slices, undo_units
from cgroup_layering.trying import (
    CONFIRMED,
    ROLLED_BACK,
    NoTry,
    TryUnderWay,
    migration_on_trial,
    script,
    script_name,
    timer,
    tried,
)
from cgroup_layering.unitpaths import ETC, RUN

_POLL = 0.5
_JOB_SECONDS = 30.0
_SCRIPT_SECONDS = 900.0
"""How long the script may take: it restarts services."""
WORD = "confirm"
_Settings = Mapping[str, Mapping[str, object]]
"""Settings by unit and key."""


class End(StrEnum):
    """How a trial ended."""

    CONFIRMED = "confirmed"
    ROLLED_BACK = "rolled back"
    UNKNOWN = "unknown"


def folder(session: Session) -> RunFolder:
    """The folder of the trial's files; only sessions that write have it."""
    assert session.run_folder is not None  # noqa: S101 - callers write
    return session.run_folder


def check_no_trial(run_folder: RunFolder) -> None:
    """Raises TryUnderWay while a migration is on trial."""
    if migration_on_trial(run_folder.names()) is not None:
        raise TryUnderWay


def arm(session: Session, migration: str, seconds: float, services: Iterable[ServicePlan]) -> None:
    """Have systemd take the try back after `seconds`, unless it is disarmed. Before the first change."""
    assert session.manager is not None  # noqa: S101 - a try is online
    run_folder = folder(session)
    run_folder.remove(CONFIRMED, ROLLED_BACK)
    run_folder.write(script_name(migration), script(migration, seconds, tried(services)), 0o700)
    try:
        session.manager.start_timer(timer(migration, seconds))
    except BaseException:
        run_folder.remove(script_name(migration))
        raise


def disarm(session: Session, migration: str) -> None:
    """Stop the timer, and remove what it would have run."""
    assert session.manager is not None  # noqa: S101 - a try is online
    run_jobs(session.manager, "stop", _loaded(session.manager, migration), _JOB_SECONDS, lambda *_: None)
    folder(session).remove(script_name(migration))


def _loaded(manager: Manager, migration: str) -> list[str]:
    name = timer(migration, 1).timer
    return [name] if manager.properties([name], UNIT, ("ActiveState",))[name].get("ActiveState") == "active" else []


def confirm(session: Session) -> Outcome:
    """Keep what is on trial: copy its files to /etc, check, disarm, and remove them from /run.

    Raises NoTry, StoreError and BusError; until the last step the try stands as it was.
    """
    assert session.manager is not None  # noqa: S101 - confirm is online
    run_folder = folder(session)
    names = run_folder.names()
    migration = migration_on_trial(names)
    if migration is None:
        raise NoTry(ROLLED_BACK in names)
    own = [one for one in session.store.own().values() if one.migration == migration and one.complete]
    waiting = [one for one in own if one.slice_file.is_relative_to(RUN)]
    before = _seen(session.manager, waiting)
    outcome = _copy(session, session.manager, waiting, before)
    run_folder.write(CONFIRMED, f"{migration}\n")
    disarm(session, migration)
    for one in waiting:
        if one.unit not in outcome.failed:
            remove_files(session.store, one.unit, one.layer, (RUN,))
    session.manager.reload()
    # What counts is what holds without the files of the try.
    kept = [one for one in waiting if one.unit not in outcome.failed]
    for unit, keys in _differences({one.unit: before[one.unit] for one in kept}, _seen(session.manager, kept)).items():
        outcome.failed[unit] = f"{unit} is not as it was on trial: {', '.join(keys)}."
    return outcome


def _copy(session: Session, manager: Manager, waiting: list[OwnFiles], before: _Settings) -> Outcome:
    outcome = Outcome()
    transaction = FileTransaction(session.store, ETC)
    try:
        session.store.check_writable(ETC)
        with session.store.folders_at_the_end():
            for one in waiting:
                transaction.copy(one)
        manager.reload()
    except BaseException:
        transaction.undo()
        raise
    outcome.written = [one.unit for one in waiting]
    read_back_slices({one.unit: one.layer for one in waiting}, transaction, manager, outcome)
    differing = _differences(before, _seen(manager, waiting))
    for unit, keys in differing.items():
        outcome.failed.setdefault(
            unit, f"{unit} would not be as it was on trial ({', '.join(keys)}); its files in {ETC} were removed again."
        )
    undo_units(transaction, manager, outcome, differing)
    return outcome


def _seen(manager: Manager, own: Iterable[OwnFiles]) -> _Settings:
    """All settings of the services and of their layers, by unit."""
    own = tuple(own)
    services = read_properties(manager, [one.unit for one in own])
    layers = manager.properties([one.layer for one in own], SLICE, PROPERTIES)
    return {
        one.unit: services[one.unit] | {f"{key} of the layer": value for key, value in layers[one.layer].items()}
        for one in own
    }


def _differences(before: _Settings, after: _Settings) -> dict[str, list[str]]:
    """The keys that are not the same any more, of each unit that has such."""
    found = {
        unit: sorted(key for key in was.keys() | after[unit].keys() if was.get(key) != after[unit].get(key))
        for unit, was in before.items()
    }
    return {unit: keys for unit, keys in found.items() if keys}


def wait(session: Session, migration: str, seconds: float, output: Output) -> End:
    """Wait for the end of a trial: `confirm` elsewhere, the word on a terminal here, or the time."""
    run_folder = folder(session)
    run_folder.unlock()
    deadline = time.monotonic() + seconds + _SCRIPT_SECONDS
    asking = sys.stdin.isatty()
    if asking:
        output.say(f"Type `{WORD}` to keep it, here or as `cgroup-layering confirm` elsewhere.")
    while time.monotonic() < deadline:
        names = run_folder.names()
        if ROLLED_BACK in names:
            return End.ROLLED_BACK
        if CONFIRMED in names:
            return End.CONFIRMED
        if migration_on_trial(names) != migration:
            return End.ROLLED_BACK  # by `rollback`
        if not asking:
            time.sleep(_POLL)
        elif select.select([sys.stdin], [], [], _POLL)[0]:
            line = sys.stdin.readline()
            asking = bool(line)
            if line.strip() == WORD:
                run_folder.lock()
                confirm(session)
                return End.CONFIRMED
    return End.UNKNOWN
