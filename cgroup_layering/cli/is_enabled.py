# SPDX-License-Identifier: LGPL-2.1-or-later
"""`is-enabled`: word and exit code as systemctl's, for scripts."""

from __future__ import annotations

from pathlib import Path

import click

from cgroup_layering.cli.options import output_options, root_option, units_argument
from cgroup_layering.cli.session import Session
from cgroup_layering.errors import ExitCode
from cgroup_layering.host import NoSuchUnit
from cgroup_layering.output.tables import Output
from cgroup_layering.unitpaths import RUN


@click.command("is-enabled")
@units_argument(required=True)
@root_option
@output_options
def command(units: tuple[str, ...], root: Path, output: Output) -> int:
    """Print enabled, enabled-runtime, disabled or not-found for each UNIT.

    Exits with 0 if one of them is layered, 4 if none of them exists, 1 otherwise.
    """
    session = Session(root)
    words = {unit: _word(session, unit) for unit in units}
    if output.json != "off":
        output.document({"units": words})
    elif not output.quiet:
        for word in words.values():
            print(word)
    if any(word.startswith("enabled") for word in words.values()):
        return ExitCode.OK
    return ExitCode.NO_SUCH_UNIT if set(words.values()) == {"not-found"} else ExitCode.FAILURE


def _word(session: Session, unit: str) -> str:
    try:
        host = session.read([unit], follow_aliases=True)
    except NoSuchUnit:
        return "not-found"
    own = next((facts.own for facts in host.services.values() if facts.own is not None), None)
    if own is None or not own.complete:
        return "disabled"
    return "enabled-runtime" if own.slice_file.is_relative_to(RUN) else "enabled"
