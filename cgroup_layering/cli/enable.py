# SPDX-License-Identifier: LGPL-2.1-or-later
"""`enable`: layer single services, as systemctl's enable does: files now, a restart only with --now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from cgroup_layering.asked import Asked
from cgroup_layering.cli.options import (
    Writing,
    layer_options,
    output_options,
    rehome_option,
    root_option,
    units_argument,
    write_options,
)
from cgroup_layering.cli.rehomers import around_restart, check_rehome
from cgroup_layering.cli.session import Session
from cgroup_layering.config.load import load
from cgroup_layering.disabled import FILE, Disabled
from cgroup_layering.errors import ExitCode
from cgroup_layering.host import Settings
from cgroup_layering.layering import Layerer
from cgroup_layering.output.plans import show_notes, show_outcome, show_plan, tell_refused
from cgroup_layering.output.progress import restarts
from cgroup_layering.output.rehoming import rehomed_json, tell_rehomed
from cgroup_layering.output.tables import Output
from cgroup_layering.planner import plan


@click.command("enable")
@units_argument(required=True)
@layer_options
@write_options
@rehome_option
@root_option
@output_options
def command(
    units: tuple[str, ...],
    asked: Asked,
    writing: Writing,
    rehome: bool,
    root: Path,
    output: Output,
) -> int:
    """Layer services: write their files; they take effect at the next start, or at once with --now."""
    check_rehome(rehome, writing.now)
    session = Session(root, asked.runtime, "layer services", write=not writing.dry_run)
    host = session.read(units, path_rules=True, settings=Settings.PLAIN)
    # What is asked for here is layered, whether it is excluded or not.
    config = replace(load(session.store), exclusions=())
    request = asked.request(units, session.folder, config)
    wanted = plan(host, request)
    if writing.dry_run:
        show_plan(wanted, output)
        return ExitCode.OK
    if tell_refused(wanted, request.named, output):
        return ExitCode.FAILURE
    show_notes(wanted, output)
    disabled = Disabled(session.store)
    if disabled.known().intersection(service.unit for service in wanted.layered):
        disabled.check()
    with around_restart(session, host, rehome, writing.timeout) as moving, restarts(output.quiet) as progress:
        layerer = Layerer(
            session.store, session.folder, session.manager, writing.timeout, progress, moving.before_restart
        )
        outcome = layerer.run(wanted, host, writing.now, writing.reload)
        rehomed = moving.finish()
    included = disabled.take_out(service.unit for service in wanted.layered if service.unit not in outcome.failed)
    if included:
        output.say(f"No longer excluded in {FILE}: {', '.join(included)}.")
    show_outcome(outcome, output, "Layered", **rehomed_json(rehomed))
    tell_rehomed(rehomed, output)
    return ExitCode.OK if outcome.ok else ExitCode.FAILURE
