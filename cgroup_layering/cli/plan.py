# SPDX-License-Identifier: LGPL-2.1-or-later
"""`plan`: what would change on this host and why, without changing it."""

from __future__ import annotations

from pathlib import Path

import click

from cgroup_layering.cli.options import (
    NamedPath,
    layer_options,
    output_options,
    path_rules_option,
    root_option,
    units_argument,
)
from cgroup_layering.cli.planfiles import write_plan_file
from cgroup_layering.cli.session import Session
from cgroup_layering.config.load import load
from cgroup_layering.errors import ExitCode
from cgroup_layering.host import Settings
from cgroup_layering.model import Tracking
from cgroup_layering.naming import is_glob
from cgroup_layering.output.plans import show_plan
from cgroup_layering.output.tables import Output
from cgroup_layering.planfile import saved
from cgroup_layering.planner import Request, plan

_CHANGES = 2
"""Exit code of --detailed-exitcode, as of `terraform plan`."""


@click.command("plan")
@units_argument(required=False)
@layer_options
@path_rules_option
@click.option("--out", type=NamedPath(), help="Also write the plan to this file, for `migrate FILE`.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 if something would change, 0 if nothing would.")
@root_option
@output_options
def command(
    units: tuple[str, ...],
    tracking: str | None,
    accept_oom_policy_loss: bool,
    layer_limits: bool | None,
    runtime: bool,
    ignore_path_rules: bool,
    out: Path | None,
    detailed_exitcode: bool,
    root: Path,
    output: Output,
) -> int:
    """Show what would change on this host and why, without changing it.

    Without UNIT, all installed services. + is a new layer, ~ a changed one, = one as it is, - a refused service.
    """
    session = Session(root, runtime)
    request = Request(
        tracking=Tracking(tracking) if tracking else None,
        limits=layer_limits,
        accept_oom_policy_loss=accept_oom_policy_loss,
        folder=session.folder,
        named=frozenset(word for word in units if not is_glob(word)),
        config=load(session.store),
        ignore_path_rules=ignore_path_rules,
    )
    host = session.read(units, path_rules=True, settings=Settings.NONE)
    found = plan(host, request)
    if out is not None:
        asked = {
            "tracking": tracking,
            "limits": request.limits,
            "runtime": runtime,
            "ignore_path_rules": ignore_path_rules,
            "accepts": accept_oom_policy_loss,
        }
        write_plan_file(out, saved(found, units, host=session.host_id(), systemd=host.version, asked=asked))
    show_plan(found, output)
    return _CHANGES if detailed_exitcode and found.changes else ExitCode.OK
