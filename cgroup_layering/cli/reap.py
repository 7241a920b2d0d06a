# SPDX-License-Identifier: LGPL-2.1-or-later
"""`reap`: apply the lifetimes once."""

from __future__ import annotations

import click

from cgroup_layering.cli.options import output_options
from cgroup_layering.cli.removers import remover_of
from cgroup_layering.cli.session import Session
from cgroup_layering.config.load import load
from cgroup_layering.config.model import Config
from cgroup_layering.errors import ExitCode
from cgroup_layering.formers import layerings
from cgroup_layering.kernel.release import check_kernel
from cgroup_layering.lifetime.auto import layer_new, read_plan
from cgroup_layering.lifetime.layers import layer_states
from cgroup_layering.lifetime.reap import Reaper
from cgroup_layering.lifetime.rules import Verdict
from cgroup_layering.lifetime.steps import Step, steps
from cgroup_layering.output.lifetimes import log_departure, reaped_json, show_reaped, show_steps, steps_json
from cgroup_layering.output.tables import Output
from cgroup_layering.runfolder import REAPING
from cgroup_layering.transaction import Outcome

PATIENCE = 600.0
"""Seconds to wait for another run: nobody waits for a timer, and a drain or a migration takes its time."""


@click.command("reap")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--force", is_flag=True, help="Remove layers even if too much is still charged to them.")
@output_options
def command(dry_run: bool, force: bool, output: Output) -> int:
    """Apply the lifetimes once: remove layers whose time is over, drained first, and files of services that are gone.

    A layer in which something runs is never removed. One that still holds more than the configured residue stays,
    unless --force is given, and what it holds is named.
    """
    session = Session(action="remove layers", write=not dry_run, patience=PATIENCE, turn=REAPING)
    return _show(session, output) if dry_run else _reap(session, force, output)


def _steps(session: Session, config: Config) -> list[Step]:
    assert session.manager is not None  # noqa: S101 - reap has no --root
    return steps(layer_states(layerings(session.store), session.manager, session.fs), config)


def _show(session: Session, output: Output) -> int:
    assert session.manager is not None  # noqa: S101 - reap has no --root
    config = load(session.store)
    wanted = _steps(session, config)
    new = read_plan(session.store, session.manager, config)[0].services if config.layers_new else ()
    if output.json != "off":
        output.document({"layers": steps_json(wanted), "layering": [service.unit for service in new]})
    else:
        show_steps(wanted, output)
        for service in new:
            output.say(f"Would layer {service.unit}.")
    return ExitCode.OK


def _reap(session: Session, force: bool, output: Output) -> int:
    assert session.manager is not None  # noqa: S101 - reap has no --root
    config = load(session.store)
    # First: there are kernels on which nothing may be removed, but layers can be added on all.
    new = layer_new(session.store, session.manager, config) if config.layers_new else Outcome()
    check_kernel()
    wanted = _steps(session, config)
    removing = any(step.decision.verdict is Verdict.REMOVE for step in wanted)
    remover = remover_of(session, session.manager, config, output, force=force, any_goes=removing)
    reaper = Reaper(session.store, session.manager, session.fs, config, remover, session.released, log_departure)
    reaped = reaper.run(wanted)
    reaped.layered = new.written
    reaped.problems.extend(new.failed.values())
    if output.json != "off":
        output.document(reaped_json(reaped))
    else:
        show_reaped(reaped, output)
    return ExitCode.FAILURE if reaped.problems else ExitCode.OK
