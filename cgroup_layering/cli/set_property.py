# SPDX-License-Identifier: LGPL-2.1-or-later
"""`set-property`: systemctl's words, at the level where they belong for a layered service."""

from __future__ import annotations

import click

from cgroup_layering.cli.options import output_options
from cgroup_layering.cli.session import Session
from cgroup_layering.cli.words import UnitWord
from cgroup_layering.errors import CgroupLayeringError, ExitCode
from cgroup_layering.naming import is_glob
from cgroup_layering.output.tables import Output
from cgroup_layering.output.updates import show_set
from cgroup_layering.properties import level, parse_assignment
from cgroup_layering.setting import Setter
from cgroup_layering.systemd.systemctl import check_properties
from cgroup_layering.updating import Updater


class NotLayered(CgroupLayeringError):
    """The service has no layer, so systemctl does all that is to be done."""

    def __init__(self, unit: str) -> None:
        super().__init__(unit)
        self.unit = unit
        self.hint = f"Use `systemctl set-property {unit}`."

    def __str__(self) -> str:
        return f"{self.unit} is not layered."


@click.command("set-property")
@click.argument("unit", type=UnitWord())
@click.argument("assignments", metavar="KEY=VALUE...", nargs=-1, required=True)
@click.option("--runtime", is_flag=True, help="Until the next boot only.")
@output_options
def command(unit: str, assignments: tuple[str, ...], runtime: bool, output: Output) -> int:
    """Set resource-control properties of UNIT at once and for good, at its layer, at the service, or both.

    The words are those of systemctl's set-property; an empty value resets. They stay the unit's own when its layer
    goes.
    """
    if is_glob(unit):
        raise click.UsageError("set-property takes one unit, not a glob.")
    # What is said last about a key is what counts, but lists are made of several words.
    wanted = [parse_assignment(word) for word in assignments]
    session = Session(action="set properties", write=True)
    manager = session.manager
    assert manager is not None  # noqa: S101 - set-property has no --root
    host = session.read((unit,), follow_aliases=True)
    (facts,) = host.services.values()
    if facts.own is None or not facts.own.complete:
        raise NotLayered(facts.unit)
    check_properties(facts.unit, [one.word for one in wanted])
    levels = {one: level(one, facts.own, host.version) for one in wanted}
    Setter(session.store, session.fs, facts.own, facts.control_group, runtime).run(levels)
    updater = Updater(session.store, manager, session.fs)
    items = updater.look({facts.unit})
    outcome = updater.run(items, reload=True)
    show_set(facts.unit, facts.own.layer, levels, outcome, output)
    return ExitCode.OK if outcome.ok else ExitCode.FAILURE
