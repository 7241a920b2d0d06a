# SPDX-License-Identifier: LGPL-2.1-or-later
"""`migrate`: the one-shot migration of a host, of the services that are named, or of a plan in a file."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

from cgroup_layering.asked import Asked
from cgroup_layering.cli import trial
from cgroup_layering.cli.deciding import compare, decide, only_what_can_be_tried, plan_of
from cgroup_layering.cli.gates import gate_options
from cgroup_layering.cli.options import (
    Writing,
    layer_options,
    output_options,
    rehome_option,
    root_option,
    units_or_plan_argument,
    write_options,
)
from cgroup_layering.cli.rehomers import around_restart, check_rehome
from cgroup_layering.cli.session import Session
from cgroup_layering.cli.undo import take_out
from cgroup_layering.cli.words import Span
from cgroup_layering.errors import CgroupLayeringError, ExitCode
from cgroup_layering.layering import Layerer
from cgroup_layering.model import Host, Plan, Timing
from cgroup_layering.output.plans import show_notes, show_outcome, show_plan, summary
from cgroup_layering.output.progress import restarts
from cgroup_layering.output.rehoming import rehomed_json, tell_rehomed
from cgroup_layering.output.tables import JsonMode, Output
from cgroup_layering.pathrules.reasons import PATH_RULE
from cgroup_layering.planfile import restrict
from cgroup_layering.planner import Request
from cgroup_layering.restarting import Gate
from cgroup_layering.runfolder import MIGRATING
from cgroup_layering.transaction import Outcome
from cgroup_layering.trying import DEFAULT_SECONDS, SHORTEST_SECONDS
from cgroup_layering.unitpaths import RUN


class NoAnswer(CgroupLayeringError):
    """A confirmation is needed, and nobody can be asked."""

    exit_code = ExitCode.USAGE
    hint = "Look at `cgroup-layering plan`, then say --yes."

    def __str__(self) -> str:
        return "A migration needs a yes, and standard input is not a terminal."


@click.command("migrate")
@units_or_plan_argument
@layer_options
@click.option("--yes", "--assume-yes", "-y", "yes", is_flag=True, help="Don't ask.")
@click.option(
    "--try",
    "try_seconds",
    type=Span(),
    is_flag=False,
    flag_value=DEFAULT_SECONDS,
    help="Take it all back after this time (2min) unless `confirm` is called; wait for that.",
)
@click.option("--no-block", is_flag=True, help="With --try: don't wait for the end of the trial.")
@write_options
@gate_options
@rehome_option
@root_option
@output_options
def command(
    units: tuple[str, ...],
    asked: Asked,
    yes: bool,
    try_seconds: float | None,
    no_block: bool,
    writing: Writing,
    gate: Gate,
    rehome: bool,
    root: Path,
    output: Output,
) -> int:
    """Layer the whole host, the services that are named, or what the plan in a FILE says.

    Shows the plan and asks; with --now, services that may be restarted are. Everything else gets into its layer at
    its next start. `rollback` undoes all of it. A FILE written by `plan --out` has a slash in its name or ends in
    .json or .plan; it is applied exactly, without a question, or not at all.
    """
    check_rehome(rehome, writing.now)
    if rehome and gate.batch:
        raise click.UsageError("--rehome goes around all restarts at once, so it goes without --batch.")
    before = plan_of(units, asked, root)
    words = units
    if before is not None:
        words, asked = before.words, before.asked
    if try_seconds is not None:
        _check_try(try_seconds, plain=writing.reload and not asked.runtime and root == Path("/"))
    elif no_block:
        raise click.UsageError("--no-block goes with --try: nothing else waits.")
    session = Session(root, asked.runtime, "migrate this host", write=not writing.dry_run)
    if try_seconds is not None:
        session.folder = RUN
        if not writing.dry_run:
            trial.check_no_trial(trial.folder(session))
    host, request, wanted = decide(session, words, asked, writing.now)
    if before is not None:
        compare(Path(units[0]), before, wanted, host, session)
        wanted = restrict(wanted, before)
    if try_seconds is not None:
        wanted = only_what_can_be_tried(wanted, output)
    if writing.dry_run:
        show_plan(wanted, output)
        return ExitCode.OK
    named_refusals = [service for service in wanted.refused if service.unit in request.named]
    for service in named_refusals:
        output.complain(service.reasons[0].sentence)
    if named_refusals and not wanted.layered:
        return ExitCode.FAILURE
    if wanted.changes and not yes and before is None:
        _ask(wanted, output)
    else:
        _tell_refused(wanted, request, output)
        if wanted.changes:
            show_notes(wanted, output)
    if session.run_folder is not None:
        session.run_folder.write(MIGRATING, f"{request.migration}\n")
    tried = try_seconds is not None and bool(wanted.changes)
    if tried and try_seconds is not None:
        trial.arm(session, request.migration, try_seconds, wanted.changes)
    try:
        outcome, rehomed = _carry_out(session, wanted, host, rehome, gate, writing, output)
    except BaseException:
        left = _is_left(session, request.migration)
        if left and tried:
            output.complain("What was done of the try goes when its time is over, or by `cgroup-layering rollback`.")
        elif left:
            output.complain("Files of this migration are left: `rollback` removes them, `migrate` goes on with it.")
        elif tried:
            with contextlib.suppress(CgroupLayeringError):  # it must not hide the error
                trial.disarm(session, request.migration)
        # Not forgotten: what a failing disk had removed can be there again when it is mounted anew.
        raise
    _forget(session)
    migration = request.migration if wanted.changes else None
    show_outcome(outcome, output, "Layered", migration=migration, **rehomed_json(rehomed))
    tell_rehomed(rehomed, output)
    if outcome.stopped:
        return _undo(session, request.migration, tried, outcome, writing.timeout, output)
    good = outcome.ok and not named_refusals
    if tried and try_seconds is not None:
        good &= _end_of_trial(session, request.migration, try_seconds, no_block, output)
    else:
        _advise(wanted, writing.now, output)
    return ExitCode.OK if good else ExitCode.FAILURE


def _check_try(seconds: float, plain: bool) -> None:
    if not plain:
        raise click.UsageError("--try goes without --runtime, --no-reload and --root: it tries things on this host.")
    if seconds < SHORTEST_SECONDS:
        raise click.UsageError(f"--try takes {SHORTEST_SECONDS:g} s or more: less leaves no time to confirm.")


def _carry_out(
    session: Session, wanted: Plan, host: Host, rehome: bool, gate: Gate, writing: Writing, output: Output
) -> tuple[Outcome, list[Any]]:
    with around_restart(session, host, rehome, writing.timeout) as moving, restarts(output.quiet) as progress:
        layerer = Layerer(
            session.store, session.folder, session.manager, writing.timeout, progress, moving.before_restart, gate
        )
        outcome = layerer.run(wanted, host, writing.now, writing.reload)
        return outcome, moving.finish()


def _is_left(session: Session, migration: str) -> bool:
    """Whether there are files of the migration: what could not be undone either, or was cut off behind the writes."""
    try:
        return any(files.migration == migration for files in session.store.own().values())
    except CgroupLayeringError:
        return True


def _forget(session: Session) -> None:
    """No migration is under way: the next one has an id of its own."""
    if session.run_folder is not None:
        session.run_folder.remove(MIGRATING)


def _undo(session: Session, migration: str, tried: bool, outcome: Outcome, timeout: float, output: Output) -> ExitCode:
    """Take back what this run did, as too many services failed; it fails in any case."""
    output.complain(f"{outcome.stopped} It is rolled back.")
    own = [files for files in session.store.own().values() if files.migration == migration]
    take_out(session, own, True, timeout, Output(quiet=True))
    if tried:
        trial.disarm(session, migration)
    return ExitCode.FAILURE


def _end_of_trial(session: Session, migration: str, seconds: float, no_block: bool, output: Output) -> bool:
    output.say(f"On trial: it is taken back in {seconds:g} s unless `cgroup-layering confirm` is called.")
    if no_block:
        return True
    end = trial.wait(session, migration, seconds, output)
    if end is trial.End.CONFIRMED:
        output.say("Confirmed: the layers stay.")
        return True
    output.complain("The migration was not confirmed, and is rolled back; `journalctl -t cgroup-layering` says more.")
    return False


def _tell_refused(wanted: Plan, request: Request, output: Output) -> None:
    """Without a question nobody may have seen the refusals; those about rules on cgroups are worth a word each."""
    for service in wanted.refused:
        if service.unit not in request.named and service.reasons[0].code == PATH_RULE:
            output.say(f"refused ({PATH_RULE}): {service.reasons[0].sentence}")


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
