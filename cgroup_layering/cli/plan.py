# SPDX-License-Identifier: LGPL-2.1-or-later
"""`plan`: what would change on this host and why, without changing it."""

from __future__ import annotations

from pathlib import Path

import click

from cgroup_layering.asked import Asked
from cgroup_layering.cli.options import layer_options, output_options, root_option, units_argument
from cgroup_layering.cli.planfiles import write_plan_file
from cgroup_layering.cli.session import Session
from cgroup_layering.cli.words import NamedPath
from cgroup_layering.config.load import load
from cgroup_layering.errors import ExitCode
from cgroup_layering.host import Settings
from cgroup_layering.output.plans import show_plan
from cgroup_layering.output.tables import Output
from cgroup_layering.planfile import saved
from cgroup_layering.planner import plan

_CHANGES = 2
"""Exit code of --detailed-exitcode, as of `terraform plan`."""


@click.command("plan")
@units_argument(required=False)
@layer_options
@click.option("--out", type=NamedPath(), help="Also write the plan to this file, for `migrate FILE`.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 if something would change, 0 if nothing would.")
@root_option
@output_options
def command(
    units: tuple[str, ...],
    asked: Asked,
    out: Path | None,
    detailed_exitcode: bool,
    root: Path,
    output: Output,
) -> int:
    """Show what would change on this host and why, without changing it.

    Without UNIT, all installed services. + is a new layer, ~ a changed one, = one as it is, - a refused service.
    """
    session = Session(root, asked.runtime)
    request = asked.request(units, session.folder, load(session.store))
    host = session.read(units, path_rules=True, settings=Settings.NONE)
    found = plan(host, request)
    if out is not None:
        write_plan_file(out, saved(found, units, host=session.host_id(), systemd=host.version, asked=asked))
    show_plan(found, output)
    return _CHANGES if detailed_exitcode and found.changes else ExitCode.OK
