# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the two verbs that move services share: plan by folder, carry out, and clear what was left behind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from cgroup_layering.cli.rehomers import around_restart
from cgroup_layering.cli.removers import remover_of
from cgroup_layering.cli.session import Session
from cgroup_layering.config.load import load
from cgroup_layering.domains.files import Domain, slice_settings
from cgroup_layering.domains.joining import weight_note
from cgroup_layering.domains.registry import all_domains, layer_settings, weights
from cgroup_layering.errors import CgroupLayeringError, ExitCode, KernelFileError
from cgroup_layering.formers import former_layers, remove_former
from cgroup_layering.kernel.release import check_kernel
from cgroup_layering.layering import Layerer
from cgroup_layering.lifetime.departure import Departure
from cgroup_layering.lifetime.drain import charged
from cgroup_layering.lifetime.layers import layer_states
from cgroup_layering.lifetime.reap import Reaper
from cgroup_layering.lifetime.steps import steps
from cgroup_layering.model import Change, Host, Plan, Reason, ServicePlan
from cgroup_layering.naming import slice_path
from cgroup_layering.output.lifetimes import departure_json, log_departure, sentence
from cgroup_layering.output.plans import show_outcome
from cgroup_layering.output.progress import restarts
from cgroup_layering.output.rehoming import rehomed_json, tell_rehomed
from cgroup_layering.output.tables import Output
from cgroup_layering.planner import Request, plan
from cgroup_layering.render import slice_text
from cgroup_layering.transaction import Outcome
from cgroup_layering.unitpaths import ETC, RUN


def plan_moves(session: Session, host: Host, request: Request) -> Plan:
    """The plan for all services of `host`, each in the folder that its files are in already, or that of `request`."""
    config = replace(load(session.store), exclusions=())  # what is named here is meant
    services: list[ServicePlan] = []
    notes: tuple[Reason, ...] = ()
    for folder, part in _by_folder(host, request.folder):
        found = plan(part, replace(request, folder=folder, config=config))
        services += found.services
        notes = found.notes
    return Plan(tuple(sorted(services, key=lambda one: one.unit)), "", notes)


def _by_folder(host: Host, default: Path) -> Iterable[tuple[Path, Host]]:
    for folder in (ETC, RUN):
        inside = {
            unit: facts
            for unit, facts in host.services.items()
            if (facts.own.slice_file.parent if facts.own is not None else default) == folder
        }
        if inside:
            yield folder, replace(host, services=inside)


def charged_now(session: Session, host: Host) -> dict[str, int]:
    """The bytes that each service would leave behind: what its layer is charged, or a plain one's own cgroup."""
    found = {}
    for unit, facts in host.services.items() if session.online else ():
        cgroup = slice_path(facts.own.layer) if facts.own is not None else facts.control_group
        try:
            found[unit] = sum(charged(session.fs, cgroup)) if cgroup else 0
        except KernelFileError:
            found[unit] = 0
    return found


def settled_weights(session: Session, domain: Domain, wanted: Plan) -> tuple[Reason, ...]:
    """A note on what the domain will weigh with the services that come."""
    layers = layer_settings(session.store)
    inside = layers.setdefault(domain.name, [])
    for service in wanted.layered:
        known = service.layering is not None and service.change is Change.NONE
        if service.layering is not None and not known:
            inside.append(slice_settings(slice_text(service.layering), domain.file))
    total = weights(all_domains(session.store), layers)[domain.name][0]
    off: list[str] = []
    if session.online:
        try:
            on = session.fs.subtree_control(slice_path(domain.slice).rpartition("/")[0])
            asked = {"cpu" if "CPU" in key else "io" for key in total.lines}
            off = sorted(asked - on)
        except KernelFileError:
            off = []
    return weight_note(domain, total, off)


@dataclass(frozen=True)
class How:
    """How a change of places is carried out; `folder` is where the files of plain services go."""

    now: bool
    reload: bool
    timeout: float
    folder: Path
    rehome: bool = False


def carry_out(
    session: Session, wanted: Plan, host: Host, how: How, output: Output, done: str, also: Outcome | None = None
) -> ExitCode:
    """Write the files, restart with `now`, and take away layers that were left; `also` is what was done before."""
    outcome = also or Outcome()
    with around_restart(session, host, how.rehome, how.timeout) as moving, restarts(output.quiet) as progress:
        for folder, part in _by_folder(host, how.folder):
            mine = replace(wanted, services=tuple(one for one in wanted.services if one.unit in part.services))
            layerer = Layerer(session.store, folder, session.manager, how.timeout, progress, moving.before_restart)
            _add(outcome, layerer.run(mine, part, how.now, how.reload))
        rehomed = moving.finish()
    moved = {service.unit for service in wanted.services} - outcome.failed.keys()
    left = _clear(session, moved, output) if how.now or not session.online else []
    outcome.remarks += [sentence(one) for one in left]
    more: dict[str, object] = {**rehomed_json(rehomed), "left": [departure_json(one) for one in left]}
    show_outcome(outcome, output, done, **more)
    tell_rehomed(rehomed, output)
    return ExitCode.OK if outcome.ok else ExitCode.FAILURE


def _add(outcome: Outcome, more: Outcome) -> None:
    for ours, theirs in (
        (outcome.written, more.written),
        (outcome.unchanged, more.unchanged),
        (outcome.moved, more.moved),
        (outcome.remarks, more.remarks),
    ):
        ours.extend(theirs)
    outcome.pending |= more.pending
    outcome.failed |= more.failed


def _clear(session: Session, units: set[str], output: Output) -> list[Departure]:
    """Take away the layers that these services have left, as `reap` would; where it may not, that is left to it."""
    left = [files for files in former_layers(session.store) if files.unit in units]
    if session.manager is None:
        for files in left:
            remove_former(session.store, files.layer)
        return []
    try:
        check_kernel()
    except CgroupLayeringError:
        return []
    config = load(session.store)
    states = layer_states(left, session.manager, session.fs, others=())
    remover = remover_of(session, session.manager, config, output, any_goes=bool(left))
    reaper = Reaper(session.store, session.manager, session.fs, config, remover, session.released, log_departure)
    return reaper.run(steps(states, config)).departures
