# SPDX-License-Identifier: LGPL-2.1-or-later
"""`verify`: is every promise kept, with what is expected and what is there."""

from __future__ import annotations

from collections.abc import Iterator

import click

from cgroup_layering.charges.strays import LayerPages, layer_pages
from cgroup_layering.charges.usage import Target
from cgroup_layering.cli.looks import folders_of
from cgroup_layering.cli.options import output_options, units_argument
from cgroup_layering.cli.session import Session
from cgroup_layering.config.load import load
from cgroup_layering.config.model import Config
from cgroup_layering.domains.registry import all_domains
from cgroup_layering.effective.quantities import PAGE
from cgroup_layering.effective.settings import PROPERTIES
from cgroup_layering.errors import CgroupLayeringError, ExitCode
from cgroup_layering.holding.domains import hold_of
from cgroup_layering.holding.look import Instance, hold_checks
from cgroup_layering.holding.names import DOMAIN
from cgroup_layering.holding.standing import holder_states
from cgroup_layering.model import Host, Plan
from cgroup_layering.naming import slice_path
from cgroup_layering.output.tables import Output
from cgroup_layering.planner import Request, plan
from cgroup_layering.requirements import check_root_rights
from cgroup_layering.spans import format_size
from cgroup_layering.survey import Place, place_of, survey
from cgroup_layering.systemd.manager import SLICE, UNIT
from cgroup_layering.verify import Check, checks, slices_of


@click.command("verify")
@units_argument(required=False)
@click.option("--strict", is_flag=True, help="Fail on strays too.")
@click.option("-v", "--verbose", is_flag=True, help="Also print the promises that are kept.")
@output_options
def command(units: tuple[str, ...], strict: bool, verbose: bool, output: Output) -> int:
    """Check that layered services are in their layers, with their controllers, limits and charges.

    Exits with 1 if a promise is broken. Strays (pages of a service's own files charged outside its layer) are counted
    and shown; they go with eviction, and fail only with --strict.
    """
    check_root_rights("see which cgroup a page is charged to")
    session = Session()
    words = units or tuple(sorted(session.store.own()))
    if not words:
        output.say("No service is layered.")
    host = session.read(words, follow_aliases=True) if words else Host(0, {})
    config = load(session.store)
    wanted = plan(host, Request(config=config))
    found = _checks(session, host, wanted)
    if not units:
        found.extend(_domain_checks(session, config))
    standings = survey(host, wanted.services, session.fs)
    inside = {slice_path(s.layer): s.unit for s in standings if s.place is Place.IN_LAYER}
    pages, unseen = _pages(session, host, inside)
    pending = [standing.unit for standing in standings if standing.place is Place.PENDING]
    broken = [check for check in found if not check.kept]
    strays = sum(count.stray_pages for count in pages.values())
    if output.json != "off":
        output.document(_document(found, pages, pending, unseen))
    else:
        shown = found if verbose else broken
        rows = [(c.unit, c.promise, "kept" if c.kept else "BROKEN", c.expected, c.actual) for c in shown]
        output.table(("UNIT", "PROMISE", "", "EXPECTED", "ACTUAL"), rows)
        _show_pages(pages, output)
        for check in found:
            if check.promise.startswith("first and later") and check not in shown:
                output.say(f"{check.unit}: {check.promise}.")
        if pending:
            output.say(f"{len(pending)} pending, judged after their next start: {', '.join(pending)}.")
        if unseen:
            output.complain(unseen)
        kept = len(found) - len(broken)
        output.say(f"{kept} of {len(found)} promises kept, {strays} stray pages ({format_size(strays * PAGE)}).")
    return ExitCode.FAILURE if broken or unseen or (strict and strays) else ExitCode.OK


def _checks(session: Session, host: Host, wanted: Plan) -> list[Check]:
    names = {name for facts in host.services.values() for name in slices_of(facts)}
    assert session.manager is not None  # noqa: S101 - verify has no --root
    slices = session.manager.properties(sorted(names), SLICE, PROPERTIES)
    found: list[Check] = []
    for service in wanted.services:
        found.extend(checks(host, service, session.fs, slices))
    return [*found, *_hold_checks(session, host, wanted)]


def _hold_checks(session: Session, host: Host, wanted: Plan) -> Iterator[Check]:
    """What is declared can be taken, and what is held is charged to its layer."""
    assert session.manager is not None  # noqa: S101 - verify has no --root
    for service in wanted.services:
        for note in service.notes:
            if note.code == "hold-bad":
                yield Check(service.unit, "declaration", "sound", note.sentence)
    holding = {unit: facts.own for unit, facts in host.services.items() if facts.own is not None and facts.own.hold}
    states = holder_states(session.manager, holding) if holding else {}
    ids = session.manager.properties(holding, UNIT, ("InvocationID",)) if holding else {}
    for unit, own in holding.items():
        facts = host.services[unit]
        if own.hold is not None and place_of(facts, own.layer, session.fs) is Place.IN_LAYER:
            raw = ids[unit].get("InvocationID")
            invocation = bytes(raw).hex() if isinstance(raw, list | tuple | bytes) else str(raw)
            instance = Instance(facts, invocation)
            yield from hold_checks(own.hold, own.layer, states[unit], session.fs, instance)


def _domain_checks(session: Session, config: Config) -> Iterator[Check]:
    """The same of domains."""
    assert session.manager is not None  # noqa: S101 - verify has no --root
    for owner, sentence in config.holds.bad.items():
        if owner.endswith(DOMAIN):
            yield Check(owner, "declaration", "sound", sentence)
    found = {}
    for domain in all_domains(session.store).values():
        hold = hold_of(session.store, domain.file.parent, f"{domain.name}{DOMAIN}")
        if hold is not None:
            found[hold.owner] = hold, domain.slice
    states = holder_states(session.manager, found) if found else {}
    for owner, (hold, name) in found.items():
        if session.fs.exists(slice_path(name)):
            yield from hold_checks(hold, name, states[owner], session.fs)


def _pages(session: Session, host: Host, inside: dict[str, str]) -> tuple[dict[str, LayerPages], str]:
    """Pages by unit, or the sentence that says why they can't be seen here."""
    folders = folders_of(session, host, inside.values()) if inside else {}
    targets = [Target(unit, layer, folders[unit]) for layer, unit in inside.items()]
    try:
        return layer_pages(targets, session.fs), ""
    except CgroupLayeringError as error:
        return {}, f"Charges could not be checked: {error}"


def _show_pages(pages: dict[str, LayerPages], output: Output) -> None:
    rows = [
        (unit, str(count.files), str(count.charged), str(count.stray_pages), ", ".join(sorted(count.strays)))
        for unit, count in sorted(pages.items())
    ]
    output.table(("UNIT", ">OWN FILES", ">PAGES IN LAYER", ">STRAYS", "CHARGED TO"), rows)


def _document(found: list[Check], pages: dict[str, LayerPages], pending: list[str], unseen: str) -> dict[str, object]:
    return {
        "checks": [
            {"unit": c.unit, "promise": c.promise, "expected": c.expected, "actual": c.actual, "kept": c.kept}
            for c in found
        ],
        "pages": {
            unit: {
                "files": count.files,
                "charged_pages": count.charged,
                "stray_pages": count.stray_pages,
                "strays": dict(count.strays),
                "unreadable_files": count.unreadable,
                "raced_pages": count.raced,
            }
            for unit, count in pages.items()
        },
        "pending": pending,
        "not_seen": unseen,
    }
