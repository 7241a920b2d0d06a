# SPDX-License-Identifier: LGPL-2.1-or-later
"""`update`: bring layers up to date with units that changed."""

from __future__ import annotations

from fnmatch import fnmatchcase

import click

from cgroup_layering.cli.options import output_options, units_argument
from cgroup_layering.cli.session import Session
from cgroup_layering.config.load import load
from cgroup_layering.config.model import ConfigError
from cgroup_layering.errors import ExitCode
from cgroup_layering.holding.model import Holds
from cgroup_layering.naming import is_glob
from cgroup_layering.output.tables import Output
from cgroup_layering.output.updates import show_diff, show_updated
from cgroup_layering.updating import Updater


@click.command("update")
@units_argument(required=False)
@click.option("--dry-run", is_flag=True, help="Show the diff of our files, and change nothing.")
@output_options
def command(units: tuple[str, ...], dry_run: bool, output: Output) -> int:
    """Bring layers up to date with units that changed, or take them away where their ground is gone.

    Without UNIT, all layers. Files are written and systemd is reloaded once; nothing is restarted.
    """
    session = Session(action="change unit files", write=not dry_run)
    assert session.manager is not None  # noqa: S101 - update has no --root
    updater = Updater(session.store, session.manager, session.fs, holds=_holds(session, output))
    if dry_run:
        show_diff(updater.look(_chosen(session, units, output)), output)
        return ExitCode.OK
    items = updater.look(_chosen(session, units, output))
    outcome = updater.run(items)
    show_updated(items, outcome, output)
    return ExitCode.OK if outcome.ok else ExitCode.FAILURE


def _holds(session: Session, output: Output) -> Holds | None:
    """What is declared; a configuration that can't be read must not keep layers from being brought up to date."""
    try:
        return load(session.store).holds
    except ConfigError as error:
        output.complain(f"{error} Holders are left as they are.")
        return None


def _chosen(session: Session, words: tuple[str, ...], output: Output) -> set[str] | None:
    """The layered units that are named, or None for all. Raises NoSuchUnit for what does not exist at all."""
    if not words:
        return None
    known = {files.unit for files in session.store.all_own()}
    known |= {path.parent.name.removesuffix(".d") for path in session.store.stray_drop_ins()}
    names = {word for word in words if not is_glob(word)}
    chosen = {unit for unit in known if any(fnmatchcase(unit, word) for word in words if is_glob(word))}
    unknown = sorted(names - known)
    if unknown:
        host = session.read(unknown)
        for name in unknown:
            primary = host.aliases.get(name, name)
            if primary in known:
                chosen.add(primary)
            else:
                output.say(f"{name} is not layered.")
    return chosen | (names & known)
