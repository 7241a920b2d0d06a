# SPDX-License-Identifier: LGPL-2.1-or-later
"""`rehome`: move strays into the layer."""

from __future__ import annotations

from pathlib import Path

import click

from cgroup_layering.charges.usage import Target
from cgroup_layering.cli.looks import folders_of, known_maps
from cgroup_layering.cli.options import output_options, units_argument
from cgroup_layering.cli.rehomers import stops
from cgroup_layering.cli.session import Session
from cgroup_layering.cli.words import Span
from cgroup_layering.errors import CgroupLayeringError, ExitCode
from cgroup_layering.kernel.pfnfile import PAGE_SIZE
from cgroup_layering.model import Host
from cgroup_layering.moving import run_jobs, states
from cgroup_layering.naming import slice_path
from cgroup_layering.output.progress import restarts
from cgroup_layering.output.rehoming import rehomed_json, show_rehomed
from cgroup_layering.output.tables import Output
from cgroup_layering.rehoming.rehome import Rehomer


class NotLayered(CgroupLayeringError):
    """A service has no layer to move anything into."""

    hint = "`cgroup-layering enable --now --rehome` layers it and moves what it has cached."

    def __init__(self, unit: str) -> None:
        super().__init__(unit)
        self.unit = unit

    def __str__(self) -> str:
        return f"{self.unit} is not layered."


class StillRunning(CgroupLayeringError):
    """Files on tmpfs are replaced only while nobody uses them."""

    hint = "Stop it first, or add --now, which restarts it."

    def __init__(self, unit: str) -> None:
        super().__init__(unit)
        self.unit = unit

    def __str__(self) -> str:
        return f"{self.unit} is running, and --tmpfs replaces files."


@click.command("rehome")
@units_argument(required=True)
@click.option("--now", is_flag=True, help="Restart the services, and move what they map in between.")
@click.option("--shared", is_flag=True, help="Also move files that other services map.")
@click.option("--tmpfs", is_flag=True, help="Also copy files on tmpfs, while the service is stopped.")
@click.option(
    "--path", "paths", multiple=True, type=click.Path(exists=True, path_type=Path), help="More files or folders of it."
)
@click.option("--timeout", type=Span(), default=300.0, show_default="5min", help="How long it may take.")
@output_options
def command(
    units: tuple[str, ...],
    now: bool,
    shared: bool,
    tmpfs: bool,
    paths: tuple[Path, ...],
    timeout: float,
    output: Output,
) -> int:
    """Move strays into the layer: pages of a service's own files that others pay for.

    They are evicted, and read back in from inside the layer, so that the cache is as warm as before. What a running
    service maps stays, unless it is restarted with --now.
    """
    session = Session(action="move pages between cgroups", write=True)
    host = session.read(units, follow_aliases=True)
    manager = session.manager
    assert manager is not None  # noqa: S101 - rehome has no --root
    targets = _targets(session, host, paths)
    running = [target.unit for target in targets.values() if host.services[target.unit].running]
    if tmpfs and running and not now:
        raise StillRunning(running[0])
    failed: dict[str, str] = {}
    with Rehomer(manager, session.fs, timeout, shared=shared, tmpfs=tmpfs, maps=known_maps(output)) as rehomer:
        stopping = stops(manager, host, running) if now else {}
        rehomer.prepare(targets)
        rehomer.begin(stopping)
        if now:
            with restarts(output.quiet) as progress:
                failed = run_jobs(manager, "try-restart", running, timeout, progress)
        rehomed = rehomer.finish()
    if now:
        after = states(manager, running)
        down = [unit for unit in running if not (after[unit].up or after[unit].ended_well)]
        failed |= {unit: f"{unit} does not run after its restart; see `systemctl status {unit}`." for unit in down}
    for one in rehomed:
        one.problems.extend(sentence for unit, sentence in failed.items() if unit == one.unit)
    if output.json != "off":
        output.document({"rehomed": [], **rehomed_json(rehomed)})
    else:
        show_rehomed(rehomed, PAGE_SIZE, output)
    return ExitCode.FAILURE if failed or any(one.problems for one in rehomed) else ExitCode.OK


def _targets(session: Session, host: Host, paths: tuple[Path, ...]) -> dict[str, Target]:
    folders = folders_of(session, host, host.services)
    targets = {}
    for unit, facts in host.services.items():
        if facts.own is None:
            raise NotLayered(unit)
        home = slice_path(facts.own.layer)
        running = facts.control_group if facts.running and not facts.control_group.startswith(f"{home}/") else ""
        more = tuple(path.absolute() for path in paths)
        targets[facts.own.layer] = Target(unit, home, folders[unit] + more, running)
    return targets
