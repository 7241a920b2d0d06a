# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a host to a plan: what happens to each service and why. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cgroup_layering import render
from cgroup_layering._version import __version__
from cgroup_layering.config.model import Config
from cgroup_layering.domains.naming import domain_name
from cgroup_layering.holding.model import Hold, Holds
from cgroup_layering.holding.names import holder_name, owners_around
from cgroup_layering.lifetime.rules import Kind, parse_rule
from cgroup_layering.lifting import Choice, lift
from cgroup_layering.model import (
    Change,
    Host,
    Layering,
    Plan,
    Reason,
    ServiceFacts,
    ServicePlan,
    Timing,
    Tracking,
    Verdict,
)
from cgroup_layering.naming import layer_name, slice_path
from cgroup_layering.own import BOOT_TARGET
from cgroup_layering.pathrules.reasons import host_notes, path_rules
from cgroup_layering.policy import deferrals, excluded_by, refusal
from cgroup_layering.trackings import impossible
from cgroup_layering.unitpaths import ETC

LIFETIME = ""
"""Of a new layer: the configuration decides."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for: `named` are the units that the caller named one by one.

    None stands for what a service has already, or else for the default.
    """

    tracking: Tracking | None = None
    limits: bool | None = None
    migration: str = ""
    folder: Path = ETC
    named: frozenset[str] = frozenset()
    lifetime: str | None = None
    """The rule that the named units get; None leaves theirs."""
    config: Config | None = None
    """What the administrator's files say of units without a rule, and what they exclude; None leaves all as it is."""
    holds: Holds | None = None
    """What is declared where `config` is None; None leaves it as it is."""
    ignore_path_rules: bool = False
    accept_oom_policy_loss: bool = False
    moving: bool = False
    """Whether layers may get another place: the services join a domain, or leave one."""

    @property
    def declared(self) -> Holds | None:
        """The declarations of persistent resources; None where nobody looked."""
        return self.config.holds if self.config is not None else self.holds


def plan(host: Host, request: Request) -> Plan:
    """Decide about every service of `host`."""
    services = [_plan_service(facts, host, request) for _, facts in sorted(host.services.items())]
    return Plan(tuple(services), request.migration, host_notes(host))


def _plan_service(facts: ServiceFacts, host: Host, request: Request) -> ServicePlan:
    refused = refusal(facts, host)
    if refused is not None:
        return ServicePlan(facts.unit, Verdict.REFUSED, (refused,))
    excluded = _excluded(facts.unit, request)
    if excluded is not None and facts.own is None and facts.unit not in request.named:
        return ServicePlan(facts.unit, Verdict.REFUSED, (excluded,))
    choice = _choose(facts, host, request)
    if choice.refusal is not None:
        return ServicePlan(facts.unit, Verdict.REFUSED, (choice.refusal,))
    layer = layer_name(facts.unit, facts.home)
    if facts.own is not None and facts.own.layer != layer and not request.moving:
        text = (
            f"{facts.unit} has its layer below another slice than {facts.parent}, which its files ask for now. "
            f"Run `cgroup-layering update {facts.unit}`."
        )
        return ServicePlan(facts.unit, Verdict.REFUSED, (Reason("parent-changed", text),))
    keyed = path_rules(facts, host)
    if keyed is not None and keyed[1] and not request.ignore_path_rules:
        text = f"{keyed[0].sentence} --ignore-path-rules layers it all the same."
        return ServicePlan(facts.unit, Verdict.REFUSED, (replace(keyed[0], sentence=text),))
    layering = Layering(
        unit=facts.unit,
        parent=facts.home,
        layer=layer,
        tracking=choice.tracking,
        lifetime=_lifetime(facts, request),
        migration=facts.own.migration if facts.own else request.migration,
        version=__version__,
        folder_created=_folder_created(facts, request.folder),
        lifted=choice.lifted,
        resets=choice.resets,
        survive_final_kill=facts.survive_final_kill,
        ignore_on_isolate=facts.ignore_on_isolate,
        wanted_by=_wanted_by(facts, request),
        limits=_limits(facts, request),
        systemd=host.version,
        hold=_hold(facts, request),
        domain_holders=_domain_holders(facts, request),
        early=not facts.default_dependencies,
        domain=domain_name(facts.domain),
        joined_plain=bool(facts.domain) and (facts.own.joined_plain if facts.own else request.moving),
    )
    timing, reasons = _timing(facts, host, layering)
    return ServicePlan(
        unit=facts.unit,
        verdict=Verdict.DEFERRED if reasons else Verdict.LAYERED,
        reasons=reasons,
        notes=(
            *choice.notes,
            *((keyed[0],) if keyed else ()),
            *_surroundings(facts),
            *((excluded,) if excluded is not None else ()),
            *_hold_notes(facts.unit, layering, request),
        ),
        change=_change(facts, layering, request.folder),
        timing=timing,
        layering=layering,
    )


def _folder_created(facts: ServiceFacts, folder: Path) -> bool:
    """Whether the drop-in's folder in `folder` is ours: what is said of the one in /run says nothing of /etc."""
    if facts.own is not None and facts.own.slice_file.parent == folder:
        return facts.own.folder_created
    return not facts.drop_in_folder


def _lifetime(facts: ServiceFacts, request: Request) -> str:
    if request.lifetime is not None:
        return request.lifetime
    return facts.own.lifetime if facts.own else LIFETIME


def _wanted_by(facts: ServiceFacts, request: Request) -> str:
    """What starts the layer at boot: a target where its lifetime is forever, by its own rule or the configuration's."""
    own_rule = _lifetime(facts, request)
    if not own_rule and request.config is None:
        return facts.own.wanted_by if facts.own else ""
    rule = parse_rule(own_rule) if own_rule or request.config is None else request.config.rule_for(facts.unit)
    return BOOT_TARGET if rule.kind is Kind.FOREVER else ""


def _hold(facts: ServiceFacts, request: Request) -> Hold | None:
    """What is declared; a declaration that can't be taken leaves things as they are."""
    holds = request.declared
    if holds is None or facts.unit in holds.bad:
        return facts.own.hold if facts.own else None
    return holds.good.get(facts.unit)


def _domain_holders(facts: ServiceFacts, request: Request) -> tuple[str, ...]:
    """The holders of the domains that it is in; of a declaration that can't be taken, if it has one already."""
    holds = request.declared
    asked = facts.own.domain_holders if facts.own is not None else ()
    found = []
    for owner in owners_around(domain_name(facts.domain)):
        name = holder_name(owner)
        stays = (holds is None or owner in holds.bad) and name in asked
        if stays or (holds is not None and owner in holds.good):
            found.append(name)
    return tuple(found)


def _hold_notes(unit: str, layering: Layering, request: Request) -> Iterator[Reason]:
    holds = request.declared
    if holds is not None and unit in holds.bad:
        stays = "its holder stays as it is" if layering.hold is not None else "it gets no holder"
        yield Reason("hold-bad", f"The resources declared for {unit} can't be taken, so {stays}: {holds.bad[unit]}")
    elif layering.hold is not None and layering.hold.tmpfs and layering.tracking is Tracking.INSTANCE:
        paths = ", ".join(one.path for one in layering.hold.tmpfs)
        text = f"What an instance of {unit} writes to {paths} itself is charged to that instance until it ends."
        yield Reason("hold-tmpfs", text)


def _excluded(unit: str, request: Request) -> Reason | None:
    found = excluded_by(unit, request.config.exclusions) if request.config is not None else None
    if found is None:
        return None
    text = f"{unit} is excluded by {found.glob!r} in {found.path}: it is layered only if it is named."
    return Reason("excluded", text)


def _limits(facts: ServiceFacts, request: Request) -> bool:
    if request.limits is not None:
        return request.limits
    return facts.own.limits if facts.own else True


def _surroundings(facts: ServiceFacts) -> tuple[Reason, ...]:
    """What else the reload of a layering brings about."""
    if not facts.need_daemon_reload:
        return ()
    text = f"The files of {facts.unit} have changed since systemd read them; the reload takes that over too."
    return (Reason("changed-on-disk", text),)


def _choose(facts: ServiceFacts, host: Host, request: Request) -> Choice:
    """The tracking asked for; where nobody asked it of this unit, what can't have it gets the other and a note."""
    own = facts.own
    limits = _limits(facts, request)
    wanted = request.tracking or (own.tracking if own else None)
    # Who has `service` tracking was asked when it got it.
    accepted = request.accept_oom_policy_loss or (own is not None and own.tracking is Tracking.SERVICE)
    asked = request.tracking is not None and facts.unit in request.named
    reason = None if wanted is None or asked else impossible(facts, host, wanted, accepted)
    if reason is not None:
        other = Tracking.INSTANCE if wanted is Tracking.SERVICE else Tracking.SERVICE
        choice = lift(facts, host, other, limits, accepted)
        return replace(choice, notes=(*choice.notes, reason))
    return lift(facts, host, wanted, limits, accepted)


def _change(facts: ServiceFacts, layering: Layering, folder: Path) -> Change:
    own = facts.own
    if own is None:
        return Change.ADD
    # Only what the files do counts: a newer version of the tool or of systemd alone is no reason to write.
    if bool(layering.wanted_by) != own.linked:
        return Change.UPDATE
    held = {path.name: text for path, text in own.held}
    if held != render.hold_texts(replace(layering, version=own.version)):
        return Change.UPDATE
    same = replace(layering, version=own.version, systemd=own.systemd, folder_created=own.folder_created)
    if own.slice_text != render.slice_text(same) or own.drop_in_text != render.drop_in_text(same):
        return Change.UPDATE
    # What is in /etc holds for /run too, but not the other way round.
    return Change.UPDATE if folder == ETC and own.slice_file.parent != ETC else Change.NONE


def _timing(facts: ServiceFacts, host: Host, layering: Layering) -> tuple[Timing, tuple[Reason, ...]]:
    if facts.control_group.startswith(slice_path(layering.layer) + "/"):
        return Timing.IN_PLACE, ()
    if not host.online or (facts.active_state in ("inactive", "failed") and not facts.job):
        return Timing.NEXT_START, ()
    found = deferrals(facts, host)
    if not found:
        return Timing.RESTART, ()
    times = {timing for timing, _ in found}
    timing = Timing.NEXT_BOOT if Timing.NEXT_BOOT in times else Timing.NEXT_START
    return timing, tuple(reason for _, reason in found)
