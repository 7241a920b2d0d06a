# SPDX-License-Identifier: LGPL-2.1-or-later
"""`disable`: take single services out of their layers."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import click

from cgroup_layering.cli.options import Writing, output_options, root_option, units_argument, write_options
from cgroup_layering.cli.session import Session
from cgroup_layering.cli.undo import leftover, paths, take_out
from cgroup_layering.config.load import load
from cgroup_layering.disabled import FILE, Disabled
from cgroup_layering.errors import ExitCode
from cgroup_layering.naming import is_glob
from cgroup_layering.output.tables import Output


@click.command("disable")
@units_argument(required=True)
@write_options
@root_option
@output_options
def command(
    units: tuple[str, ...],
    writing: Writing,
    root: Path,
    output: Output,
) -> int:
    """Take services out of their layers: remove our files; running instances stay until their next start.

    With --now those that may be restarted are, and their layers go; `plan` says which wait, and why. Where the
    configuration says `auto`, they are recorded as excluded, so that they stay plain.
    """
    if not writing.reload:
        raise click.UsageError("disable cannot do without a reload: systemd would keep the layers it knows.")
    session = Session(root, False, "change unit files", write=not writing.dry_run)
    known = session.store.own()
    names = [word for word in units if not is_glob(word)]
    globs = [word for word in units if is_glob(word)]
    unknown = [name for name in names if name not in known]
    if unknown:
        # Told apart: a unit that does not exist is an error, one that is plain already is not.
        host = session.read(unknown)
        for name in unknown:
            primary = host.aliases.get(name, name)
            if primary != name and primary in known:
                output.complain(f"{name} is an alias of {primary}; name that one.")
                return ExitCode.FAILURE
            left = leftover(host.services[name]) if name in host.services else None
            if left is None:
                output.say(f"{name} is not layered.")
            else:
                known[name] = left
    chosen = [
        files
        for unit, files in sorted(known.items())
        if unit in names or any(fnmatchcase(unit, glob) for glob in globs)
    ]
    auto = load(session.store).auto_for
    excluded = [unit for unit in sorted({*names, *(files.unit for files in chosen)}) if auto(unit)]
    if writing.dry_run:
        for unit in excluded:
            output.say(f"Would exclude {unit} in {FILE}.")
        for files in chosen:
            if files.slice_text:
                output.say(f"Would remove {paths(files)}.")
            else:
                output.say(f"{files.unit} has no files any more, but still runs in {files.layer}; --now restarts it.")
        return ExitCode.OK
    if excluded:
        disabled = Disabled(session.store)
        disabled.check()
        # First, so that nothing layers them again meanwhile.
        disabled.add(excluded)
        output.say(f"Excluded from `auto` in {FILE}: {', '.join(excluded)}.")
    return take_out(session, chosen, writing.now, writing.timeout, output)
