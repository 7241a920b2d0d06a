# SPDX-License-Identifier: LGPL-2.1-or-later
"""`charges`: who pays for what, page by page and object by object."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from cgroup_layering.cli.options import output_options, units_argument
from cgroup_layering.cli.session import Session
from cgroup_layering.cli.words import NamedPath, Span
from cgroup_layering.errors import ExitCode
from cgroup_layering.output.tables import JsonMode, Output
from cgroup_layering.requirements import check_cgroups, check_root_rights

SORTS = ("size", "name", "file", "shmem", "anon", "swap")


@click.command("charges")
@units_argument(required=False)
@click.option(
    "--path",
    "paths",
    multiple=True,
    type=NamedPath(),
    help="Files, folders or mounts; with --cgroup: where to look.",
)
@click.option("--cgroup", "cgroups", multiple=True, metavar="CGROUP", help="What is charged there: a path or a unit.")
@click.option("--bpf", is_flag=True, help="All bpf maps.")
@click.option("--top", type=click.IntRange(min=0), help="Print no more than so many rows; 0 prints all.")
@click.option("--sort", type=click.Choice(SORTS), help="What to sort by (default: size).")
@click.option("--watch", type=Span(), metavar="SECONDS", help="Look again and again, so many seconds apart.")
@click.option("--bytes", "raw", is_flag=True, help="Print sizes in bytes.")
@output_options
def command(
    units: tuple[str, ...],
    paths: tuple[Path, ...],
    cgroups: tuple[str, ...],
    bpf: bool,
    top: int | None,
    sort: str | None,
    watch: float | None,
    raw: bool,
    output: Output,
) -> int:
    """Show which cgroup pays for memory: of the whole host, or of UNITs, files, cgroups or bpf maps.

    Nothing is brought into memory and no charge is changed by looking.
    """
    check_root_rights("see which cgroup a page is charged to")
    if watch is not None and output.json is JsonMode.PRETTY:
        raise click.UsageError("--watch prints one document a line: use --json=short with it.")
    if bpf and (units or paths or cgroups):
        raise click.UsageError("--bpf shows all bpf maps; UNITs and --cgroup show theirs anyway.")
    # numpy takes its time: whoever made a mistake is told so before.
    from cgroup_layering.cli.looks import View, documented
    from cgroup_layering.output.charges import Sizes

    fs = check_cgroups()
    session = Session() if units else None
    while True:
        with documented(output) as document:
            view = View(fs, output, document, top, sort or "", Sizes(raw))
            if session:
                view.services(session, units)
            if cgroups:
                view.cgroups(cgroups, paths)
            elif paths:
                view.paths(paths)
            if bpf:
                view.maps()
            if not (units or paths or cgroups or bpf):
                view.host()
        if watch is None:
            return ExitCode.OK
        sys.stdout.flush()
        time.sleep(watch)
        if sys.stdout.isatty():
            click.clear()
