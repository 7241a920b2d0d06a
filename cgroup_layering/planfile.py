# SPDX-License-Identifier: LGPL-2.1-or-later
"""A plan in a file: what was decided and what was asked for, so that a later run does exactly that or nothing.

The file is no order to obey: the plan is made anew, with the options that the file names, and compared with it. So a
forged file can forbid restarts and can choose among the options of `plan`, those that accept a loss included; it can't
bring in a line of its own. A service is the same if its verdict, tracking and the texts of its files are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cgroup_layering import render
from cgroup_layering.asked import Asked, asked_of
from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.model import Plan, Reason, ServicePlan, Timing, Verdict
from cgroup_layering.naming import is_glob, is_service_name

KIND = "cgroup-layering plan"
SCHEMA = 1
SIZE_LIMIT = 64 << 20
"""Largest plan that is read, in bytes: some 100,000 services."""


class PlanFileError(CgroupLayeringError):
    """A file that holds no plan that can be used."""

    hint = "Make a new one with `cgroup-layering plan --out FILE`."

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"Cannot use the plan {self.path}: {self.reason}."


class HostChanged(CgroupLayeringError):
    """The host is not the one that the plan was made for; `differences` are sentences."""

    hint = "Nothing was changed. Look at `cgroup-layering plan` again, and make a new plan with --out."
    _SHOWN = 20

    def __init__(self, path: Path, differences: Sequence[str]) -> None:
        super().__init__(path, differences)
        self.path = path
        self.differences = tuple(differences)

    def __str__(self) -> str:
        lines = list(self.differences[: self._SHOWN])
        if len(self.differences) > self._SHOWN:
            lines.append(f"{len(self.differences) - self._SHOWN} more services differ.")
        return f"This host has changed since the plan {self.path} was made. " + " ".join(lines)


@dataclass(frozen=True, slots=True)
class Saved:
    """What a plan's file says. `words` are the units asked for; `prints` and `restarts` are by unit."""

    host: str
    systemd: int
    words: tuple[str, ...]
    asked: Asked
    prints: Mapping[str, str]
    restarts: frozenset[str]


def print_of(service: ServicePlan) -> str:
    """What makes a service's plan the same: verdict, tracking, layer and all texts, less the migration's id."""
    if service.layering is None:
        return f"refused: {','.join(reason.code for reason in service.reasons)}"
    same = replace(service.layering, migration="")
    text = "\0".join((render.slice_text(same), render.drop_in_text(same), *render.hold_texts(same).values()))
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    return f"{service.change} {same.tracking} {digest}"


def host_of(machine_id: str) -> str:
    """A host's id that tells nothing about its machine id, which is confidential (machine-id(5))."""
    return hashlib.sha256(f"{KIND}\0{machine_id.strip()}".encode()).hexdigest()[:32]


def saved(plan: Plan, words: Sequence[str], *, host: str, systemd: int, asked: Asked) -> dict[str, object]:
    """The document for a plan."""
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "host": host,
        "systemd": systemd,
        "asked": {"units": list(words), **asdict(asked)},
        "services": {
            service.unit: {"plan": print_of(service), "when": service.timing if service.layering else None}
            for service in plan.services
        },
    }


def parse(text: str, path: Path) -> Saved:
    """What the text of a plan's file says. Raises PlanFileError."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanFileError(path, "it is no JSON document") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise PlanFileError(path, "it was not written by `cgroup-layering plan --out`")
    if document.get("schema") != SCHEMA:
        raise PlanFileError(path, "another version of cgroup-layering wrote it")
    try:
        asked, services = document["asked"], document["services"]
        words = tuple(str(word) for word in asked["units"])
        prints = {str(unit): str(one["plan"]) for unit, one in services.items()}
        restarts = frozenset(str(unit) for unit, one in services.items() if one["when"] == Timing.RESTART)
        found = Saved(str(document["host"]), int(document["systemd"]), words, asked_of(asked), prints, restarts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PlanFileError(path, "it is damaged") from error
    bad = [word for word in (*words, *prints) if not is_service_name(word) and not is_glob(word)]
    if bad:
        raise PlanFileError(path, f"{bad[0]!r} is no name of a service")
    return found


def differences(before: Saved, now: Plan, *, host: str, systemd: int) -> list[str]:
    """How the plan that is made now differs from the saved one, as sentences; empty if it does not.

    That a service runs or doesn't is no difference: see `restrict`.
    """
    found = []
    if before.host != host:
        found.append("It was made on another host.")
    if before.systemd != systemd:
        found.append(f"It was made for systemd {before.systemd}, this is {systemd}.")
    services = {service.unit: service for service in now.services}
    found += [f"{unit} is no longer there." for unit in sorted(before.prints.keys() - services.keys())]
    for unit, service in services.items():
        then = before.prints.get(unit)
        if then is None:
            found.append(f"{unit} is new.")
        elif then != print_of(service):
            found.append(_difference(then, service))
    return found


def _difference(then: str, service: ServicePlan) -> str:
    if service.verdict is Verdict.REFUSED:
        return f"{service.unit} would be refused now: {service.reasons[0].sentence}"
    if then.startswith("refused"):
        return f"{service.unit} was refused, and could be layered now."
    return f"The files of {service.unit}, or ours for it, are not as they were."


def restrict(plan: Plan, before: Saved) -> Plan:
    """The plan with no other restarts than the saved one has: a service that was started since stays as it is."""

    def one(service: ServicePlan) -> ServicePlan:
        if service.timing is not Timing.RESTART or service.unit in before.restarts:
            return service
        reason = Reason("not-in-plan", f"{service.unit} was not to be restarted when the plan was made.")
        return replace(service, verdict=Verdict.DEFERRED, timing=Timing.NEXT_START, reasons=(reason,))

    return replace(plan, services=tuple(one(service) for service in plan.services))
