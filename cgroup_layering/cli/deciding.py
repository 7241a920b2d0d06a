# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a migration is to do: a saved plan, or what the host and the words make of it now."""

from __future__ import annotations

from pathlib import Path

import click

from cgroup_layering.asked import Asked
from cgroup_layering.cli.planfiles import is_plan_file, read_plan_file
from cgroup_layering.cli.session import Session
from cgroup_layering.config.load import load
from cgroup_layering.host import Settings
from cgroup_layering.model import Host, Plan, Timing, Tracking
from cgroup_layering.output.tables import Output
from cgroup_layering.planfile import HostChanged, Saved, differences
from cgroup_layering.planner import Request, plan
from cgroup_layering.trying import only_new


def plan_of(units: tuple[str, ...], asked: Asked, root: Path) -> Saved | None:
    """The plan that a single word names, if it does; what is asked for is in it then."""
    if not any(is_plan_file(word) for word in units):
        return None
    if len(units) > 1:
        raise click.UsageError("A plan's FILE stands alone: it says for itself which units it is about.")
    if asked != Asked():
        raise click.UsageError(
            "--tracking, --accept-oom-policy-loss, --layer-limits, --runtime and --ignore-path-rules are decided when "
            "a plan is made."
        )
    if root != Path("/"):
        raise click.UsageError("A plan's FILE is for a running host, not for --root.")
    return read_plan_file(Path(units[0]))


def decide(session: Session, words: tuple[str, ...], asked: Asked, now: bool) -> tuple[Host, Request, Plan]:
    """The host, what is asked of it, and the plan for that; `now` if services are to be restarted.

    Asking about every service takes longer than all else. Where nothing is restarted and each service keeps its own
    settings (tracking `instance`), systemd is asked about those alone whose files leave a doubt, as `plan` does:
    what the others had is what they say of themselves after the reload, and their layers are held against that.
    """
    request = asked.request(words, session.folder, load(session.store), session.new_migration())
    if session.online and not now:
        host = session.read(words, path_rules=True, settings=Settings.DOUBTFUL)
        found = plan(host, request)
        if all(service.layering and service.layering.tracking is Tracking.INSTANCE for service in found.changes):
            return host, request, found
    host = session.read(words, path_rules=True, settings=Settings.PLAIN)
    return host, request, plan(host, request)


def compare(path: Path, before: Saved, wanted: Plan, host: Host, session: Session) -> None:
    """Raises HostChanged where the plan in the file is not what would be planned now."""
    found = differences(before, wanted, host=session.host_id(), systemd=host.version)
    if found:
        raise HostChanged(path, found)


def only_what_can_be_tried(wanted: Plan, output: Output) -> Plan:
    """New layers alone; and a word about what a trial can't show."""
    chosen = only_new(wanted)
    left = [service.unit for service in wanted.changes if service not in chosen]
    if left:
        output.say(f"Not part of the try, as they are layered already: {', '.join(left)}.")
    at_boot = sum(service.timing is Timing.NEXT_BOOT for service in chosen)
    if at_boot:
        output.say(f"{at_boot} services move at their next boot only, which a try does not live to see.")
    return Plan((*chosen, *wanted.refused), wanted.migration, wanted.notes)
