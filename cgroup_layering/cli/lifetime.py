# SPDX-License-Identifier: LGPL-2.1-or-later
"""`lifetime`: show or set the rule of a layer."""

from __future__ import annotations

import click

from cgroup_layering.cli.options import output_options
from cgroup_layering.cli.session import Session
from cgroup_layering.cli.words import OneUnit
from cgroup_layering.config.load import load
from cgroup_layering.errors import CgroupLayeringError, ExitCode
from cgroup_layering.lifetime.rules import parse_rule
from cgroup_layering.output.tables import Output
from cgroup_layering.planner import Request, plan
from cgroup_layering.transaction import write_plan

CONFIGURED = "default"


class NoLayer(CgroupLayeringError):
    """A service without a layer has no lifetime to show or set."""

    exit_code = ExitCode.NOT_RUNNING
    hint = "`cgroup-layering enable` layers it."

    def __init__(self, unit: str) -> None:
        super().__init__(unit)
        self.unit = unit

    def __str__(self) -> str:
        return f"{self.unit} is not layered."


@click.command("lifetime")
@click.argument("unit", type=OneUnit())
@click.argument("rule", required=False, default="")
@output_options
def command(unit: str, rule: str, output: Output) -> int:
    """Show or set when the layer of UNIT may go.

    RULE is installed, forever, boot, idle=SPAN, charged=SIZE or both of these in quotes; `default` leaves it to the
    configuration.
    """
    new = None
    if rule:
        new = "" if rule == CONFIGURED else str(parse_rule(rule))
    session = Session(action="set lifetimes", write=new is not None)
    host = session.read((unit,), follow_aliases=True)
    (facts,) = host.services.values()
    if facts.own is None:
        raise NoLayer(facts.unit)
    config = load(session.store)
    said = facts.own.lifetime
    if new is not None:
        folder = facts.own.slice_file.parent
        request = Request(folder=folder, named=frozenset({facts.unit}), lifetime=new, config=config)
        wanted = plan(host, request)
        if wanted.refused:
            output.complain(wanted.refused[0].reasons[0].sentence)
            return ExitCode.FAILURE
        if wanted.changes:
            write_plan(wanted.layered, session.store, folder, session.manager, reload=True)
        said = new
    effective = parse_rule(said) if said else config.rule_for(facts.unit)
    if output.json != "off":
        source = "unit" if said else "configuration"
        output.document({"unit": facts.unit, "lifetime": str(effective), "from": source})
    elif new is None:
        print(effective)
    else:
        output.say(f"The lifetime of {facts.own.layer} is {effective}.")
    return ExitCode.OK
