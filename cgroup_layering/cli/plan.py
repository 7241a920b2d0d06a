# SPDX-License-Identifier: LGPL-2.1-or-later
"""`plan`: what would change on this host and why, without changing it."""

from __future__ import annotations

from pathlib import Path

import click

from cgroup_layering.cli.options import layer_options, output_options, root_option, units_argument
from cgroup_layering.cli.session import Session
from cgroup_layering.config import load
from cgroup_layering.model import Tracking
from cgroup_layering.naming import is_glob
from cgroup_layering.output.plans import show_plan
from cgroup_layering.output.tables import Output
from cgroup_layering.planner import Request, plan


@click.command("plan")
@units_argument(required=False)
@layer_options
@root_option
@output_options
def command(
    units: tuple[str, ...], tracking: str | None, no_layer_limits: bool, runtime: bool, root: Path, output: Output
) -> None:
    """Show what would change on this host and why, without changing it.

    Without UNIT, all installed services. + is a new layer, ~ a changed one, = one as it is, - a refused service.
    """
    session = Session(root, runtime)
    request = Request(
        tracking=Tracking(tracking) if tracking else None,
        limits=not no_layer_limits,
        folder=session.folder,
        named=frozenset(word for word in units if not is_glob(word)),
        config=load(session.store),
    )
    show_plan(plan(session.read(units), request), output)
