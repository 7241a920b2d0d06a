# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which of a service's resource-control lines its layer takes over, and what resets them below. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cgroup_layering.controls import DIRECTIVES, Directive, Handling, is_unknown_control, tracking_resets
from cgroup_layering.model import Host, Lifted, Reason, ServiceFacts, Tracking
from cgroup_layering.naming import ancestors
from cgroup_layering.offline import is_true, specifiers
from cgroup_layering.unitfile import Setting, resolve


@dataclass(frozen=True, slots=True)
class Choice:
    """What the files of a service lead to: the tracking, the lines, and what must be said about it."""

    tracking: Tracking
    lifted: tuple[Lifted, ...] = ()
    resets: tuple[tuple[str, str], ...] = ()
    notes: tuple[Reason, ...] = ()
    refusal: Reason | None = None


def lift(
    facts: ServiceFacts,
    host: Host,
    wanted: Tracking | None,
    limits: bool = True,
) -> Choice:
    """Choose tracking and lines for one service.

    `wanted` is the tracking asked for, None for the default; `limits` False leaves MemoryMax, MemoryHigh and
    MemorySwapMax off the layer. The result's `refusal` is set where the files ask for what a layer can't give.
    """
    refused = _refusal(facts, host.version)
    if refused is not None:
        return Choice(Tracking.INSTANCE, refusal=refused)
    notes: list[Reason] = []
    tracking = wanted or Tracking.INSTANCE
    forced = forced_instance(facts, host.version)
    if tracking is Tracking.SERVICE and forced is not None:
        return Choice(Tracking.INSTANCE, refusal=forced)
    if wanted is None and forced is None and accounting_off(facts, host.version):
        tracking = Tracking.SERVICE
        text = f"{facts.unit} has memory accounting switched off, so only its layer counts memory."
        notes.append(Reason("accounting-off", text))
    elif tracking is Tracking.SERVICE:
        notes.extend(_service_losses(facts, host))
    lifted, resets = _lines(facts, host.version, tracking, limits)
    if not limits:
        notes.append(Reason("no-layer-limits", f"The layer of {facts.unit} has no memory limits of its own."))
    return Choice(tracking, lifted, resets, tuple(notes))


def _refusal(facts: ServiceFacts, version: int) -> Reason | None:
    for setting in facts.files.settings:
        if setting.section != "Service" or not setting.value:
            continue
        where = f"{setting.path}, line {setting.line}"
        if is_unknown_control(setting.key):
            text = f"{facts.unit} cannot be layered: {setting.key}= ({where}) is not known to this version."
            return Reason("directive", text)
        directive = DIRECTIVES.get(setting.key)
        if directive is None or not lives(directive, version):
            continue
        if directive.instance is Handling.REFUSE:
            text = f"{facts.unit} cannot be layered: {setting.key}= ({where}): {directive.why}."
            return Reason("directive", text)
        if directive.specifiers and resolve(setting.value, specifiers(facts.unit)) is None:
            text = (
                f"{facts.unit} cannot be layered: {setting.key}={setting.value} ({where}) has a specifier that "
                "means something else in a slice."
            )
            return Reason("specifier", text)
    return None


def forced_instance(facts: ServiceFacts, version: int) -> Reason | None:
    """Why a service can only have `instance` tracking, or None."""
    unit = facts.unit
    if facts.delegate and "memory" in facts.delegate_controllers:
        text = f"{unit} can only have `instance` tracking: its payload was promised the memory controller (Delegate=)."
        return Reason("tracking", text)
    for setting in facts.files.settings:
        if setting.section != "Service":
            continue
        directive = DIRECTIVES.get(setting.key)
        if directive is not None and directive.force_instance and lives(directive, version):
            text = f"{unit} can only have `instance` tracking: {setting.key}= cannot be reset by a drop-in."
            return Reason("tracking", text)
    for key in ("ManagedOOMSwap", "ManagedOOMMemoryPressure"):
        if facts.files.last("Service", key) == "kill":
            text = f"{unit} can only have `instance` tracking: {key}=kill needs memory figures of the instance."
            return Reason("tracking", text)
    return None


def accounting_off(facts: ServiceFacts, version: int) -> bool:
    """Whether the unit as it is has no memory controller of its own asking, so that nothing is lost without."""
    if is_true(facts.files.last("Service", "MemoryAccounting"), facts.accounting_default):
        return False
    for name, directive in DIRECTIVES.items():
        if directive.service is Handling.MOVE and "Memory" in name and name != "MemoryZSwapWriteback":
            value = facts.files.last("Service", name)
            if value is not None and value not in ("infinity", "0") and lives(directive, version):
                return False
    return True


def _service_losses(facts: ServiceFacts, host: Host) -> list[Reason]:
    unit = facts.unit
    text = f"`systemctl status {unit}` shows no memory any more; the layer's does."
    losses = [Reason("status-memory", text)]
    if facts.oom_policy != "continue":
        text = f"OOMPolicy={facts.oom_policy} of {unit} has no effect in `service` tracking: systemd sees no OOM kill."
        losses.append(Reason("oom-policy", text))
    for name in (facts.parent, *ancestors(facts.parent)):
        if name in host.oom_kill_units:
            key = host.oom_kill_units[name]
            text = f"{unit} is no candidate of systemd-oomd in `service` tracking, though {name} has {key}=kill."
            losses.append(Reason("oomd", text))
            break
    return losses


LIMITS = ("MemoryMax", "MemoryHigh", "MemorySwapMax", "StartupMemoryMax", "StartupMemoryHigh", "MemoryLimit")


def _lines(
    facts: ServiceFacts, version: int, tracking: Tracking, limits: bool
) -> tuple[tuple[Lifted, ...], tuple[tuple[str, str], ...]]:
    lifted: list[Lifted] = []
    resets: list[tuple[str, str]] = []
    if tracking is Tracking.SERVICE:
        watch = facts.files.last("Service", "MemoryPressureWatch")
        resets += tracking_resets(version, watch in (None, "auto"))
    for directive in DIRECTIVES.values():
        if not lives(directive, version) or not facts.files.has("Service", directive.name):
            continue
        handling = directive.instance if tracking is Tracking.INSTANCE else directive.service
        if handling not in (Handling.COPY, Handling.MOVE):
            continue
        settings = facts.files.all("Service", directive.name)
        if settings and (limits or directive.name not in LIMITS):
            chosen = settings if directive.repeats else settings[-1:]
            lifted.extend(_lifted(facts.unit, directive, setting) for setting in chosen)
        if handling is Handling.MOVE and directive.name not in {key for key, _ in resets}:
            resets.append((directive.name, directive.reset))
    return tuple(lifted), tuple(resets)


def _lifted(unit: str, directive: Directive, setting: Setting) -> Lifted:
    value = setting.value
    if directive.specifiers:
        value = (resolve(value, specifiers(unit)) or value).replace("%", "%%")
    return Lifted(setting.key, value, f"{setting.path}:{setting.line}")


def lives(directive: Directive, version: int) -> bool:
    """Whether this release knows the directive."""
    return directive.since <= version and (directive.until is None or version <= directive.until)
