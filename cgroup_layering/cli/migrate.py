# SPDX-License-Identifier: LGPL-2.1-or-later
"""`migrate`: the one-shot migration of a host, or of the services that are named."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cgroup_layering.cli.options import (
    layer_options,
    output_options,
    rehome_option,
    root_option,
    units_argument,
    write_options,
)
from cgroup_layering.cli.rehomers import around_restart, check_rehome
from cgroup_layering.cli.session import Session
from cgroup_layering.config import load
from cgroup_layering.errors import CgroupLayeringError, ExitCode
from cgroup_layering.layering import Layerer
from cgroup_layering.model import Plan, Timing, Tracking
from cgroup_layering.naming import is_glob
from cgroup_layering.output.plans import show_notes, show_outcome, show_plan, summary
from cgroup_layering.output.progress import restarts
from cgroup_layering.output.rehoming import rehomed_json, tell_rehomed
from cgroup_layering.output.tables import JsonMode, Output
from cgroup_layering.planner import Request, plan


class NoAnswer(CgroupLayeringError):
    """A confirmation is needed, and nobody can be asked."""

    exit_code = ExitCode.USAGE
    hint = "Look at `cgroup-layering plan`, then say --yes."

    def __str__(self) -> str:
        return "A migration needs a yes, and standard input is not a terminal."


@click.command("migrate")
@units_argument(required=False)
@layer_options
@click.option("--yes", "--assume-yes", "-y", "yes", is_flag=True, help="Don't ask.")
@write_options
@rehome_option
@root_option
@output_options
def command(
    units: tuple[str, ...],
    tracking: str | None,
    no_layer_limits: bool,
    runtime: bool,
    yes: bool,
    now: bool,
    dry_run: bool,
    no_reload: bool,
    timeout: float,
    rehome: bool,
    root: Path,
    output: Output,
) -> int:
    """Layer the whole host, or the services that are named.

    Shows the plan and asks; with --now, services that may be restarted are. Everything else gets into its layer at
    its next start. `rollback` undoes all of it.
    """
    check_rehome(rehome, now)
    session = Session(root, runtime, "migrate this host", write=not dry_run)
    host = session.read(units)
    request = Request(
        tracking=Tracking(tracking) if tracking else None,
        limits=not no_layer_limits,
        migration=session.new_migration(),
        folder=session.folder,
        named=frozenset(word for word in units if not is_glob(word)),
        config=load(session.store),
    )
    wanted = plan(host, request)
    if dry_run:
        show_plan(wanted, output)
        return ExitCode.OK
    named_refusals = [service for service in wanted.refused if service.unit in request.named]
    for service in named_refusals:
        output.complain(service.reasons[0].sentence)
    if named_refusals and not wanted.layered:
        return ExitCode.FAILURE
    if wanted.changes and not yes:
        _ask(wanted, output)
    elif wanted.changes:
        show_notes(wanted, output)
    with around_restart(session, host, rehome, timeout) as moving, restarts(output.quiet) as progress:
        layerer = Layerer(session.store, session.folder, session.manager, timeout, progress, moving.before_restart)
        outcome = layerer.run(wanted, host, now, not no_reload)
        rehomed = moving.finish()
    migration = request.migration if wanted.changes else None
    show_outcome(outcome, output, "Layered", migration=migration, **rehomed_json(rehomed))
    tell_rehomed(rehomed, output)
    _advise(wanted, now, output)
    return ExitCode.OK if outcome.ok and not named_refusals else ExitCode.FAILURE


def _ask(wanted: Plan, output: Output) -> None:
    if not sys.stdin.isatty():
        raise NoAnswer
    if output.json is JsonMode.OFF:
        show_plan(wanted, output)
    answer = click.prompt(f"\n{summary(wanted)} Type `yes` to go on", default="", show_default=False, err=True)
    if answer != "yes":
        raise click.Abort


def _advise(wanted: Plan, now: bool, output: Output) -> None:
    waiting = [service for service in wanted.layered if service.timing is Timing.RESTART]
    if waiting and not now:
        output.say(f"{len(waiting)} services get into their layers when they are restarted; --now does that.")
