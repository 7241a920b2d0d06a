# SPDX-License-Identifier: LGPL-2.1-or-later
"""`status`: layers, instances, and what outlived former instances."""

from __future__ import annotations

from dataclasses import asdict, replace

import click

from cgroup_layering.cli.options import output_options, units_argument
from cgroup_layering.cli.session import Session
from cgroup_layering.config.load import load
from cgroup_layering.config.model import Config
from cgroup_layering.domains.naming import slice_of_layer
from cgroup_layering.domains.registry import all_domains
from cgroup_layering.errors import ExitCode
from cgroup_layering.formers import layerings
from cgroup_layering.holding.names import DOMAIN
from cgroup_layering.holding.standing import holder_states
from cgroup_layering.levels import outermost, tree
from cgroup_layering.model import Host, Tracking
from cgroup_layering.naming import slice_path
from cgroup_layering.output.tables import Output
from cgroup_layering.output.trees import show_tree, tree_json
from cgroup_layering.planner import Request, plan
from cgroup_layering.spans import format_size
from cgroup_layering.survey import Place, Standing, survey


@click.command("status")
@units_argument(required=False)
@click.option("--bytes", "raw", is_flag=True, help="Print sizes in bytes.")
@click.option("--tree", "as_tree", is_flag=True, help="Show domains, layers and instances as a tree.")
@output_options
def command(units: tuple[str, ...], raw: bool, as_tree: bool, output: Output) -> int:
    """Show layers: memory charged to layer and live instance, what outlived former instances, pending, drift.

    Without UNIT, a table of all layered services. Exits with 3 if one of the UNITs is not layered.
    """
    session = Session()
    if as_tree:
        return _tree(session, units, raw, output)
    words = units or tuple(sorted(session.store.own()))
    host = session.read(words, follow_aliases=True) if words else None
    config = load(session.store)
    holders = _holders(session, host, config) if host else {}
    standings = [
        replace(
            standing,
            lifetime=standing.lifetime or str(config.rule_for(standing.unit)),
            holder=holders.get(standing.unit, ""),
        )
        for standing in (survey(host, plan(host, Request(config=config)).services, session.fs) if host else [])
    ]
    plain = sorted(set(host.services) - {standing.unit for standing in standings}) if host and units else []
    if output.json != "off":
        output.document({"services": [_as_json(standing) for standing in standings], "not_layered": plain})
    elif units:
        print("\n\n".join(_detail(standing, raw) for standing in standings), end="\n" if standings else "")
    else:
        _table(standings, raw, output)
        domains = {f"{name}{DOMAIN}" for name in all_domains(session.store)} if config.holds.good else set()
        for name in sorted((config.holds.good.keys() - domains | config.holds.bad.keys()) - set(words)):
            lacking = "is no domain of this host" if name.endswith(DOMAIN) else "has no layer"
            unheld = f"Resources are declared for {name}, which {lacking}: nothing is held for it."
            output.say(config.holds.bad.get(name, unheld))
    for unit in plain:
        output.complain(f"{unit} is not layered.")
    return ExitCode.NOT_RUNNING if plain else ExitCode.OK


def _holders(session: Session, host: Host, config: Config) -> dict[str, str]:
    """How the holders of layered services stand, and which declarations can't be taken."""
    assert session.manager is not None  # noqa: S101 - status has no --root
    holding = [unit for unit, facts in host.services.items() if facts.own is not None and facts.own.hold is not None]
    found = holder_states(session.manager, holding) if holding else {}
    for unit in config.holds.bad.keys() & host.services.keys():
        found[unit] = f"{found.get(unit, 'none')}; the declaration can't be taken: {config.holds.bad[unit]}"
    return found


def _tree(session: Session, units: tuple[str, ...], raw: bool, output: Output) -> int:
    """What each level is charged itself: of the whole host, or of where the named services are."""
    if units:
        host = session.read(units, follow_aliases=True)
        own = [facts.own for facts in host.services.values() if facts.own is not None]
        plain = sorted(unit for unit, facts in host.services.items() if facts.own is None)
        slices = {slice_of_layer(files.layer) or files.layer for files in own}
    else:
        plain = []
        slices = {domain.slice for domain in all_domains(session.store).values()}
        slices |= {files.layer for files in layerings(session.store)}
    paths = [slice_path(name) for name in slices]
    nodes = [tree(session.fs, cgroup) for cgroup in outermost(paths) if session.fs.exists(cgroup)]
    if output.json != "off":
        output.document({"tree": [tree_json(node) for node in nodes], "not_layered": plain})
    else:
        show_tree(nodes, raw)
    for unit in plain:
        output.complain(f"{unit} is not layered.")
    return ExitCode.NOT_RUNNING if plain else ExitCode.OK


def _size(size: int | None, raw: bool) -> str:
    return "n/a" if size is None else str(size) if raw else format_size(size)


def _state(standing: Standing) -> str:
    words = [str(standing.place)]
    words += ["drifted"] if standing.drift else []
    words += ["holder failed"] if standing.holder.startswith("failed") else []
    return ", ".join(words)


def _table(standings: list[Standing], raw: bool, output: Output) -> None:
    headers = ("UNIT", "TRACKING", ">LAYER", ">INSTANCE", ">OUTLIVED", "STATE")
    rows = (
        (s.unit, s.tracking, *(_size(n, raw) for n in (s.layer_bytes, s.instance_bytes, s.outlived_bytes)), _state(s))
        for s in standings
    )
    pending = sum(standing.place is Place.PENDING for standing in standings)
    drifted = sum(bool(standing.drift) for standing in standings)
    output.table(headers, rows, f"{len(standings)} layered services, {pending} pending, {drifted} drifted.")


def _detail(standing: Standing, raw: bool) -> str:
    own = "n/a (only the layer counts memory)" if standing.tracking is Tracking.SERVICE else "n/a"
    lines = {
        standing.unit: "",
        "      Layer": standing.layer,
        "   Tracking": standing.tracking,
        "   Lifetime": standing.lifetime,
        "  Migration": standing.migration or "none (enabled by itself)",
        "      State": f"{standing.active_state}, {_state(standing)}",
        "     CGroup": standing.control_group or "none",
        "     Memory": f"{_size(standing.layer_bytes, raw)} charged to the layer",
        "   Instance": own if standing.instance_bytes is None else _size(standing.instance_bytes, raw),
        "   Outlived": own if standing.outlived_bytes is None else _size(standing.outlived_bytes, raw),
    }
    if standing.holder:
        lines["     Holder"] = standing.holder
    if standing.drift:
        lines["      Drift"] = standing.drift
    return "\n".join(f"{key}: {value}" if value else key for key, value in lines.items())


def _as_json(standing: Standing) -> dict[str, object]:
    return {**asdict(standing), "outlived_bytes": standing.outlived_bytes}
