# SPDX-License-Identifier: LGPL-2.1-or-later
"""`domain add` and `domain remove`: files now, a restart only with --now."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import click

from cgroup_layering.cli.domain import DomainWord
from cgroup_layering.cli.membership import How, carry_out, charged_now, plan_moves, settled_weights
from cgroup_layering.cli.options import (
    Writing,
    output_options,
    path_rules_option,
    rehome_option,
    root_option,
    runtime_option,
    units_argument,
    write_options,
)
from cgroup_layering.cli.rehomers import check_rehome
from cgroup_layering.cli.session import Session
from cgroup_layering.cli.undo import paths, taken_out
from cgroup_layering.domains.joining import joining, leaving, with_notes
from cgroup_layering.domains.registry import members, the_domain
from cgroup_layering.errors import ExitCode
from cgroup_layering.model import Host, OwnFiles
from cgroup_layering.naming import is_glob
from cgroup_layering.output.plans import show_notes, show_plan, tell_refused
from cgroup_layering.output.tables import Output
from cgroup_layering.planner import Request
from cgroup_layering.unitpaths import RUN


@click.command("add")
@click.argument("name", type=DomainWord())
@units_argument(required=True)
@runtime_option
@path_rules_option
@write_options
@rehome_option
@root_option
@output_options
def add_command(
    name: str,
    units: tuple[str, ...],
    runtime: bool,
    ignore_path_rules: bool,
    writing: Writing,
    rehome: bool,
    root: Path,
    output: Output,
) -> int:
    """Put services into the domain NAME; they get there at their next start, or at once with --now.

    What is plain is layered. The layer that a service had goes when its last instance has ended.
    """
    check_rehome(rehome, writing.now)
    session = Session(root, runtime, "put services into domains", write=not writing.dry_run)
    domain = the_domain(session.store, name)
    if domain.file.parent == RUN:
        session.folder = RUN
    host = joining(session.read(units, path_rules=True), domain)
    request = Request(
        folder=session.folder,
        named=frozenset(word for word in units if not is_glob(word)),
        ignore_path_rules=ignore_path_rules,
        moving=True,
    )
    wanted = with_notes(plan_moves(session, host, request), host, charged_now(session, host))
    wanted = replace(wanted, notes=(*wanted.notes, *settled_weights(session, domain, wanted)))
    if writing.dry_run:
        show_plan(wanted, output)
        return ExitCode.OK
    if tell_refused(wanted, request.named, output):
        return ExitCode.FAILURE
    show_notes(wanted, output)
    how = How(writing.now, writing.reload, writing.timeout, session.folder, rehome)
    return carry_out(session, wanted, host, how, output, f"Added to {name}:")


@click.command("remove")
@click.argument("name", type=DomainWord())
@units_argument(required=True)
@write_options
@root_option
@output_options
def remove_command(
    name: str,
    units: tuple[str, ...],
    writing: Writing,
    root: Path,
    output: Output,
) -> int:
    """Take services out of the domain NAME, at their next start or at once with --now.

    A service that was layered before has its layer where it was; one that was plain is plain again.
    """
    session = Session(root, False, "take services out of domains", write=not writing.dry_run)
    the_domain(session.store, name)
    chosen = _members(session, name, units, output)
    plain = [own for own in chosen if own.joined_plain]
    if not writing.reload and plain:
        raise click.UsageError("Un-layering cannot do without a reload: systemd would keep the layers it knows.")
    staying = [own.unit for own in chosen if not own.joined_plain]
    host = leaving(session.read(staying)) if staying else Host(0, {})
    request = Request(named=frozenset(staying), ignore_path_rules=True, moving=True)
    wanted = with_notes(plan_moves(session, host, request), host, charged_now(session, host))
    if writing.dry_run:
        for own in plain:
            output.say(f"Would remove {paths(own)}.")
        show_plan(wanted, output)
        return ExitCode.OK
    if tell_refused(wanted, request.named, output):
        return ExitCode.FAILURE
    show_notes(wanted, output)
    gone = taken_out(session, plain, writing.now, writing.timeout, output) if plain else None
    how = How(writing.now, writing.reload, writing.timeout, session.folder)
    return carry_out(session, wanted, host, how, output, f"Removed from {name}:", gone)


def _members(session: Session, name: str, units: tuple[str, ...], output: Output) -> list[OwnFiles]:
    """The members that words name. Raises NoSuchUnit for a service that is nowhere."""
    inside = {own.unit: own for own in members(session.store).get(name, [])}
    unknown = [word for word in units if not is_glob(word) and word not in inside]
    if unknown:
        session.read(unknown)
        for unit in unknown:
            output.say(f"{unit} is not in domain {name}.")
    return [own for unit, own in inside.items() if any(fnmatchcase(unit, word) for word in units)]
