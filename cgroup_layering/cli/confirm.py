# SPDX-License-Identifier: LGPL-2.1-or-later
"""`confirm`: keep a migration that is on trial."""

from __future__ import annotations

import click

from cgroup_layering.cli.options import output_options
from cgroup_layering.cli.session import Session
from cgroup_layering.cli.trial import confirm
from cgroup_layering.errors import ExitCode
from cgroup_layering.output.plans import show_outcome
from cgroup_layering.output.tables import Output


@click.command("confirm")
@output_options
def command(output: Output) -> int:
    """Keep a migration that is on trial: its files go to /etc, and nothing takes them back any more."""
    outcome = confirm(Session(action="confirm a migration", write=True))
    show_outcome(outcome, output, "Confirmed")
    return ExitCode.OK if outcome.ok else ExitCode.FAILURE
