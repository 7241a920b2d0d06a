# SPDX-License-Identifier: LGPL-2.1-or-later
"""`cat`: the files that are ours for a service."""

from __future__ import annotations

from pathlib import Path

import click

from cgroup_layering.cli.options import output_options, root_option, units_argument
from cgroup_layering.cli.session import Session
from cgroup_layering.errors import ExitCode
from cgroup_layering.host import NoSuchUnit
from cgroup_layering.model import OwnFiles
from cgroup_layering.output.tables import Output
from cgroup_layering.own import boot_link


@click.command("cat")
@units_argument(required=True)
@root_option
@output_options
def command(units: tuple[str, ...], root: Path, output: Output) -> int:
    """Show the files that are ours for each UNIT, as `systemctl cat` does."""
    session = Session(root)
    host = session.read(units, follow_aliases=True)
    layered = [facts.own for facts in host.services.values() if facts.own is not None]
    for unit, facts in host.services.items():
        if facts.own is None:
            output.complain(f"{unit} is not layered, so there are no files of ours for it.")
    if output.json != "off":
        output.document({"units": [{"unit": own.unit, "files": _files(own), "links": _links(own)} for own in layered]})
    else:
        print("\n".join(f"# {path}\n{text}" for own in layered for path, text in _files(own).items()), end="")
        for own in layered:
            print("".join(f"\n# {path} -> {target}\n" for path, target in _links(own).items()), end="")
    if not host.services:
        raise NoSuchUnit(units)
    return ExitCode.OK if len(layered) == len(host.services) else ExitCode.FAILURE


def _links(own: OwnFiles) -> dict[str, str]:
    return {str(boot_link(own.slice_file)): str(own.slice_file)} if own.linked else {}


def _files(own: OwnFiles) -> dict[str, str]:
    files = {str(own.slice_file): own.slice_text}
    if own.drop_in_text is not None:
        files[str(own.drop_in)] = own.drop_in_text
    files |= {str(path): text for path, text in own.held}
    return files
