# SPDX-License-Identifier: LGPL-2.1-or-later
"""`domain show`: the domains, who is in them, and what is charged to them."""

from __future__ import annotations

from pathlib import Path

import click

from cgroup_layering.cli.domain import DomainWord
from cgroup_layering.cli.options import output_options, root_option
from cgroup_layering.cli.session import Session
from cgroup_layering.domains.files import Domain
from cgroup_layering.domains.registry import NoSuchDomain, all_domains, inner, members
from cgroup_layering.domains.weights import KEYS
from cgroup_layering.errors import ExitCode
from cgroup_layering.holding.domains import hold_of
from cgroup_layering.holding.names import DOMAIN
from cgroup_layering.holding.standing import holder_states
from cgroup_layering.levels import Node, tree
from cgroup_layering.naming import slice_path
from cgroup_layering.output.tables import Output
from cgroup_layering.output.trees import show_tree, tree_json
from cgroup_layering.spans import format_size


@click.command("show")
@click.argument("name", type=DomainWord(), required=False)
@click.option("--bytes", "raw", is_flag=True, help="Print sizes in bytes.")
@root_option
@output_options
def show_command(name: str | None, raw: bool, root: Path, output: Output) -> int:
    """Show all domains, or the domain NAME: its settings, its services, and what each level is charged itself."""
    session = Session(root)
    known = all_domains(session.store)
    if name and name not in known:
        raise NoSuchDomain(name)
    inside = {domain: [own.unit for own in found] for domain, found in members(session.store).items()}
    chosen = [known[name]] if name else list(known.values())
    holders = {domain.name: _holder(session, domain) for domain in chosen}
    trees = {domain.name: _tree(session, domain) for domain in chosen}
    if output.json != "off":
        documents = [
            {
                **_json(one, inside.get(one.name, []), inner(known, one.name), trees[one.name]),
                "holder": holders[one.name],
            }
            for one in chosen
        ]
        output.document({"domains": documents})
    elif name:
        _detail(known[name], inside.get(name, []), inner(known, name), holders[name])
        if (node := trees[name]) is not None:
            print()
            show_tree([node], raw)
    else:
        rows = [
            (one.name, ", ".join(inside.get(one.name, [])), *_sizes(trees[one.name], raw), _settings(one))
            for one in chosen
        ]
        headers = ("DOMAIN", "SERVICES", ">CHARGED", ">ITSELF", "SETTINGS")
        output.table(headers, rows, f"{len(rows)} domains.")
    return ExitCode.OK


def _tree(session: Session, domain: Domain) -> Node | None:
    cgroup = slice_path(domain.slice)
    return tree(session.fs, cgroup) if session.online and session.fs.exists(cgroup) else None


def _sizes(node: Node | None, raw: bool) -> tuple[str, str]:
    sizes = (node.current_bytes, node.own_bytes) if node is not None else (None, None)
    charged, itself = ("n/a" if size is None else str(size) if raw else format_size(size) for size in sizes)
    return charged, itself


def _settings(domain: Domain) -> str:
    weights = {key: value for key, value in domain.settings.items() if key in KEYS and key not in domain.given_keys}
    return " ".join([*(one.word for one in domain.given), *(f"{key}={value}" for key, value in weights.items())])


def _holder(session: Session, domain: Domain) -> str:
    """How the holder of its persistent resources stands; empty for none."""
    owner = f"{domain.name}{DOMAIN}"
    if session.manager is None or hold_of(session.store, domain.file.parent, owner) is None:
        return ""
    return holder_states(session.manager, [owner])[owner]


def _detail(domain: Domain, units: list[str], nested: list[str], holder: str) -> None:
    lines = {
        domain.name: "",
        "      Slice": domain.slice,
        "       File": str(domain.file),
        "   Settings": _settings(domain) or "none",
        "   Services": ", ".join(units) or "none",
    }
    if nested:
        lines["    Domains"] = ", ".join(nested)
    if holder:
        lines["     Holder"] = holder
    print("\n".join(f"{key}: {value}" if value else key for key, value in lines.items()))


def _json(domain: Domain, units: list[str], nested: list[str], node: Node | None) -> dict[str, object]:
    return {
        "name": domain.name,
        "slice": domain.slice,
        "file": str(domain.file),
        "given": [{"key": one.key, "value": one.value} for one in domain.given],
        "settings": domain.settings,
        "services": units,
        "domains": nested,
        "tree": tree_json(node) if node is not None else None,
    }
