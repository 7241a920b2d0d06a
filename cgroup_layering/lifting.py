# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which of a service's resource-control lines its layer takes over, and what resets them below. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cgroup_layering.controls import DIRECTIVES, Directive, Handling, is_unknown_control, tracking_resets
from cgroup_layering.model import Host, Lifted, Reason, ServiceFacts, Tracking
from cgroup_layering.offline import is_true, specifiers
from cgroup_layering.trackings import accounting_off, impossible, losses
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
    accepted: bool = False,
) -> Choice:
    """Choose tracking and lines for one service.

    `wanted` is the tracking asked for, None for the default; `limits` False leaves MemoryMax, MemoryHigh and
    MemorySwapMax off the layer; `accepted` lets it lose its OOMPolicy=. The result's `refusal` is set where the files
    ask for what a layer can't give.
    """
    refused = _refusal(facts, host.version)
    if refused is not None:
        return Choice(Tracking.INSTANCE, refusal=refused)
    off = accounting_off(facts, host.version)
    tracking = wanted or (Tracking.SERVICE if off else Tracking.INSTANCE)
    refused = impossible(facts, host, tracking, accepted)
    if refused is not None:
        return Choice(Tracking.INSTANCE, refusal=refused)
    notes = losses(facts, host, off) if tracking is Tracking.SERVICE else []
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
        if directive is None or not directive.lives(version):
            continue
        if directive.instance is Handling.REFUSE and setting.value not in directive.harmless:
            text = f"{facts.unit} cannot be layered: {setting.key}= ({where}): {directive.why}."
            return Reason("directive", text)
        if directive.specifiers and resolve(setting.value, specifiers(facts.unit)) is None:
            text = (
                f"{facts.unit} cannot be layered: {setting.key}={setting.value} ({where}) has a specifier that "
                "means something else in a slice."
            )
            return Reason("specifier", text)
    return None


LIMITS = ("MemoryMax", "MemoryHigh", "MemorySwapMax", "StartupMemoryMax", "StartupMemoryHigh", "MemoryLimit")
_PLAIN_VALUE = re.compile(r"infinity|idle|yes|no|[1-9][0-9]*(\.[0-9]+)?[KMGT%]?|0", re.ASCII)


def _lines(
    facts: ServiceFacts, version: int, tracking: Tracking, limits: bool
) -> tuple[tuple[Lifted, ...], tuple[tuple[str, str], ...]]:
    lifted: list[Lifted] = []
    resets: list[tuple[str, str]] = []
    if tracking is Tracking.SERVICE:
        resets += tracking_resets(version, _watches_memory(facts), _watches_io(facts))
    ignored = _ignored(facts)
    written = facts.files.keys("Service")
    for name, directive in DIRECTIVES.items():
        if name not in written or not directive.lives(version):
            continue
        handling = directive.instance if tracking is Tracking.INSTANCE else directive.service
        if handling not in (Handling.COPY, Handling.MOVE):
            continue
        if name not in ignored and (limits or name not in LIMITS):
            lifted.extend(_taken_over(facts, directive, version))
        if handling is Handling.MOVE and directive.reset is not None and name not in {key for key, _ in resets}:
            resets.append((name, directive.reset))
    return tuple(lifted), tuple(resets)


def _taken_over(facts: ServiceFacts, directive: Directive, version: int) -> list[Lifted]:
    """The lines of one directive for the slice file, as they are written."""
    written = [s for s in facts.files.settings if s.section == "Service" and s.key == directive.name]
    settings = facts.files.all("Service", directive.name)
    if not settings:
        counts = directive.emptied and (directive.emptied_until is None or version <= directive.emptied_until)
        return [_lifted(facts.unit, directive, written[-1], directive.emptied)] if counts else []
    # A value that systemd can't read leaves the one before in force: what doesn't look plain is taken over with all
    # that stands before it.
    if not directive.repeats and _PLAIN_VALUE.fullmatch(settings[-1].value):
        settings = settings[-1:]
    return [_lifted(facts.unit, directive, setting, setting.value) for setting in settings]


def _lifted(unit: str, directive: Directive, setting: Setting, value: str) -> Lifted:
    if directive.specifiers:
        value = (resolve(value, specifiers(unit)) or value).replace("%", "%%")
    return Lifted(setting.key, value, f"{setting.path}:{setting.line}")


def _ignored(facts: ServiceFacts) -> set[str]:
    """Directives that systemd reads but does not apply to this service, so that its layer must not have them."""
    disabled = {word for s in facts.files.all("Service", "DisableControllers") for word in s.value.split()}
    found = {name for name, directive in DIRECTIVES.items() if disabled.intersection(directive.controllers)}
    if "memory" in disabled:
        found.add("MemoryZSwapWriteback")
    if _has_io(facts):
        # cgroup_context_has_io_config() in src/core/cgroup.c: then BlockIO* counts for nothing.
        found.update(name for name in DIRECTIVES if "BlockIO" in name)
    return found


def _has_io(facts: ServiceFacts) -> bool:
    names = [name for name, directive in DIRECTIVES.items() if "io" in directive.controllers and "Block" not in name]
    names = [name for name in names if name not in ("IOAccounting", "Delegate")]
    return is_true(facts.files.last("Service", "IOAccounting")) or any(facts.files.all("Service", n) for n in names)


def _watches_memory(facts: ServiceFacts) -> bool:
    """Whether the service gets MEMORY_PRESSURE_WATCH because its memory is accounted for (`auto`)."""
    automatic = facts.files.last("Service", "MemoryPressureWatch") in (None, "auto")
    return automatic and is_true(facts.files.last("Service", "MemoryAccounting"), facts.accounting_default)


def _watches_io(facts: ServiceFacts) -> bool:
    """The same for IO_PRESSURE_WATCH, where what asks for the controller goes to the layer."""
    return facts.files.last("Service", "IOPressureWatch") in (None, "auto") and _has_io(facts)
