# SPDX-License-Identifier: LGPL-2.1-or-later
"""Services that join a domain or leave one: what stands against it, and what must be said of it before. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from cgroup_layering.domains.files import Domain
from cgroup_layering.domains.naming import domain_name
from cgroup_layering.domains.weights import Sum
from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.model import Change, Host, OwnFiles, Plan, Reason, ServiceFacts, ServicePlan
from cgroup_layering.naming import default_slice
from cgroup_layering.spans import format_size
from cgroup_layering.unitfile import parse
from cgroup_layering.unitpaths import RUN


class InOtherDomain(CgroupLayeringError):
    """A service is in one domain, as a file says, and was asked into another."""

    def __init__(self, unit: str, domain: str, where: str) -> None:
        super().__init__(unit, domain, where)
        self.unit = unit
        self.domain = domain
        self.where = where
        self.hint = f"Run `cgroup-layering domain remove {domain} {unit}` before."

    def __str__(self) -> str:
        return f"{self.where}: {self.unit} is in domain {self.domain}, and a service is in one domain."


class OnlyUntilBoot(CgroupLayeringError):
    """What stays can't be in a domain that goes with the next boot."""

    hint = "Make both for good, or both with --runtime."

    def __init__(self, what: str, domain: str) -> None:
        super().__init__(what, domain)
        self.what = what
        self.domain = domain

    def __str__(self) -> str:
        return f"Domain {self.domain} goes with the next boot, and {self.what} does not."


def joining(host: Host, domain: Domain) -> Host:
    """The host with all its services meant for a domain. Raises InOtherDomain, OnlyUntilBoot."""
    for unit, facts in sorted(host.services.items()):
        if facts.own is not None and facts.domain and facts.domain != domain.slice:
            raise InOtherDomain(unit, domain_name(facts.domain), _where(facts.own))
        if facts.own is not None and domain.file.parent == RUN and facts.own.slice_file.parent != RUN:
            raise OnlyUntilBoot(f"the layer of {unit}", domain.name)
    return _meant_for(host, domain.slice)


def _where(own: OwnFiles) -> str:
    """The file and the line that put a service where it is."""
    lines = parse(own.drop_in_text or "", own.drop_in)
    line = next((one.line for one in reversed(lines) if one.key == "Slice"), 0)
    return f"{own.drop_in}:{line}" if line else str(own.slice_file)


def leaving(host: Host) -> Host:
    """The host with all its services meant for their own slices."""
    return _meant_for(host, "")


def _meant_for(host: Host, domain: str) -> Host:
    return replace(host, services={unit: replace(facts, domain=domain) for unit, facts in host.services.items()})


def with_notes(plan: Plan, host: Host, held: Mapping[str, int]) -> Plan:
    """The plan with what concerns charges and slices said; `held` are the bytes that each service leaves behind."""
    services = []
    for service in plan.services:
        notes = tuple(_notes(service, host.services[service.unit], held))
        services.append(replace(service, notes=(*service.notes, *notes)))
    return replace(plan, services=tuple(services))


def _notes(service: ServicePlan, facts: ServiceFacts, held: Mapping[str, int]) -> Iterable[Reason]:
    if service.layering is None or service.change is Change.NONE:
        return
    size = format_size(held.get(service.unit, 0))
    if facts.own is not None and facts.own.layer != service.layering.layer:
        text = (
            f"{service.unit} leaves {facts.own.layer}, which is charged {size}: a cgroup can't move, so it is drained "
            "and goes when its last instance has ended."
        )
        yield Reason("domain-charges", text)
    elif facts.running and facts.own is None:
        text = f"{service.unit} is charged {size} outside of the domain now: what outlives this instance stays there."
        yield Reason("domain-charges", text)
    if facts.domain and facts.parent != default_slice(facts.unit):
        text = f"{service.unit} leaves {facts.parent}, whose limits and weights hold for it no more."
        yield Reason("domain-slice", text)


def weight_note(domain: Domain, total: Sum, off: Iterable[str]) -> tuple[Reason, ...]:
    """What a domain will weigh; `off` are the controllers that this switches on for its siblings."""
    off = tuple(off)
    if not total.lines:
        return ()
    lines = " and ".join(f"{key}={value}" for key, value in total.lines.items())
    text = f"{domain.name} gets {lines}, the sum of what its services weigh."
    if total.over:
        text += f" The sum for {' and '.join(total.over)} is over the maximum, so it is cut."
    if off:
        text += f" That switches the {' and '.join(off)} controller on for the slices and services beside it."
    return (Reason("domain-weight", text),)
