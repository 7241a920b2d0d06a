# SPDX-License-Identifier: LGPL-2.1-or-later
"""`rollback`: undo the last migration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from cgroup_layering.cli.options import Writing, output_options, root_option, write_options
from cgroup_layering.cli.session import Session
from cgroup_layering.cli.trial import disarm, folder
from cgroup_layering.cli.undo import paths, take_out
from cgroup_layering.config.load import load
from cgroup_layering.config.model import ConfigError
from cgroup_layering.errors import CgroupLayeringError, ExitCode
from cgroup_layering.output.tables import Output
from cgroup_layering.removal import last_migration
from cgroup_layering.runfolder import MIGRATING
from cgroup_layering.trying import migration_on_trial


class NoSuchMigration(CgroupLayeringError):
    """No file of this host carries that id."""

    def __init__(self, migration: str, known: Iterable[str]) -> None:
        super().__init__(migration, known)
        self.migration = migration
        self.known = tuple(sorted(set(known)))

    def __str__(self) -> str:
        there = f"there are {', '.join(self.known)}" if self.known else "there is none"
        return f"There is no migration {self.migration} on this host; {there}."


@click.command("rollback")
@click.argument("migration", required=False, default="", metavar="[ID]")
@click.option(
    "--yes",
    "--assume-yes",
    "-y",
    is_flag=True,
    expose_value=False,
    help="Accepted for scripts; rollback never asks.",
)
@write_options
@root_option
@output_options
def command(migration: str, writing: Writing, root: Path, output: Output) -> int:
    """Undo the last migration, or that with the ID: remove the files that carry its id, and nothing else.

    Services leave their layers at their next start; with --now those that may be restarted do so at once.
    """
    if not writing.reload:
        raise click.UsageError("rollback cannot do without a reload: systemd would keep the layers it knows.")
    session = Session(root, False, "change unit files", write=not writing.dry_run)
    known = session.store.own()
    ids = {files.migration for files in known.values() if files.migration}
    if migration and migration not in ids:
        raise NoSuchMigration(migration, ids)
    migration = migration or last_migration(known.values())
    chosen = [files for _, files in sorted(known.items()) if migration and files.migration == migration]
    if not chosen:
        output.say("There is no migration to roll back.")
    if writing.dry_run:
        for files in chosen:
            output.say(f"Would remove {paths(files)}.")
        return ExitCode.OK
    code = take_out(session, chosen, writing.now, writing.timeout, output)
    if chosen and (others := sorted(ids - {migration})):
        output.say(f"Layers of other migrations stay: {', '.join(others)}.")
    if session.online:
        if migration_on_trial(folder(session).names()) == migration:
            disarm(session, migration)
        folder(session).remove(MIGRATING)
    _tell_of_auto(session, [files.unit for files in chosen], output)
    return code


def _tell_of_auto(session: Session, units: list[str], output: Output) -> None:
    """Where the configuration says `auto`, what was undone is done again: that must not come as a surprise."""
    try:
        config = load(session.store)
    except ConfigError:  # `auto` does nothing either then, and the way back is not barred by it
        return
    again = [unit for unit in units if config.auto_for(unit)]
    if again:
        output.say(
            f"`auto` will layer {', '.join(again)} again: take it out of the configuration, or disable the services."
        )
