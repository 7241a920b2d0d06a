# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which tracking a service can have, and what `service` tracking costs it. Pure."""

from __future__ import annotations

import os

from cgroup_layering.controls import DIRECTIVES, Directive, Handling
from cgroup_layering.model import Host, Reason, ServiceFacts, Tracking
from cgroup_layering.naming import ancestors
from cgroup_layering.offline import is_true
from cgroup_layering.own import DROP_IN
from cgroup_layering.spans import parse_size
from cgroup_layering.unitfile import Setting

ACCEPT = "--accept-oom-policy-loss"
"""The option without which no service loses its OOMPolicy=."""


def impossible(facts: ServiceFacts, host: Host, tracking: Tracking, accepted: bool = False) -> Reason | None:
    """Why a service can't have `tracking`, or None; `accepted` is whether it may lose its OOMPolicy=."""
    unit = facts.unit
    off = accounting_off(facts, host.version)
    if tracking is Tracking.INSTANCE:
        if off:
            text = f"{unit} cannot have `instance` tracking: its memory accounting is switched off."
            return Reason("tracking", text)
        return None
    forced = _forced_instance(facts, host.version)
    if forced is not None or accepted or not loses_oom_policy(facts, off):
        return forced
    text = (
        f"OOMPolicy={facts.oom_policy} of {unit} would be lost in `service` tracking: {_LOST[facts.oom_policy]}. "
        f"Give {ACCEPT} to have it so."
    )
    return Reason("oom-policy", text)


_LOST = {
    "stop": "after an OOM kill of one of its processes the others would live on, without a word from systemd",
    "kill": "the kernel would kill one of its processes instead of all, and systemd would not notice",
}


def loses_oom_policy(facts: ServiceFacts, off: bool) -> bool:
    """Whether `service` tracking takes the OOMPolicy= away.

    Without memory accounting (`off`) systemd watches for OOM kills in no tracking, but `kill` still sets the
    cgroup's memory.oom.group as long as a sibling has the memory controller on (seen on 252, 257 and 262).
    """
    return facts.oom_policy == "kill" if off else facts.oom_policy != "continue"


def _forced_instance(facts: ServiceFacts, version: int) -> Reason | None:
    """Why a service can only have `instance` tracking, or None."""
    head = f"{facts.unit} can only have `instance` tracking:"
    if facts.delegate and "memory" in facts.delegate_controllers:
        return Reason("tracking", f"{head} its payload was promised the memory controller (Delegate=).")
    for setting in facts.files.settings:
        directive = DIRECTIVES.get(setting.key) if setting.section == "Service" else None
        if directive is None or not directive.lives(version):
            continue
        if directive.force_instance and not _harmless(facts, directive):
            return Reason("tracking", f"{head} {setting.key}= {directive.force_instance}.")
        if _outranks(setting, directive):
            text = f"{setting.path}, line {setting.line}, sets {setting.key}= and sorts behind {DROP_IN}."
            return Reason("tracking", f"{head} {text}")
    return None


def _harmless(facts: ServiceFacts, directive: Directive) -> bool:
    """Whether what is in force asks for nothing; where no reset helps, the key's presence is enough."""
    return directive.reset is not None and (facts.files.last("Service", directive.name) or "") in (
        "",
        *directive.harmless,
    )


def _outranks(setting: Setting, directive: Directive) -> bool:
    """Whether a line would set again what our drop-in has to reset."""
    reset = directive.service is Handling.MOVE or directive.name == "MemoryAccounting"
    behind = os.fsencode(setting.path.name) > os.fsencode(DROP_IN)
    return reset and behind and setting.path.suffix == ".conf" and setting.value not in ("", directive.reset)


def accounting_off(facts: ServiceFacts, version: int) -> bool:
    """Whether the unit as it is does not ask for the memory controller, so that nothing is lost without."""
    if is_true(facts.files.last("Service", "MemoryAccounting"), facts.accounting_default):
        return False
    if facts.delegate and "memory" in facts.delegate_controllers:
        return False
    for name, directive in DIRECTIVES.items():
        if "memory" not in directive.controllers or directive.service is not Handling.MOVE:
            continue
        if not directive.lives(version) or not facts.files.has("Service", name):
            continue
        if directive.reset is None or not _is_none(facts.files.last("Service", name), directive.reset or "infinity"):
            return False
    return True


def _is_none(value: str | None, none: str) -> bool:
    try:
        return value is None or parse_size(value) == parse_size(none)
    except ValueError:
        return False


def losses(facts: ServiceFacts, host: Host, off: bool) -> list[Reason]:
    """What an administrator must know before a service gets `service` tracking."""
    unit = facts.unit
    if off:
        found = [
            Reason("accounting-off", f"{unit} has memory accounting switched off, so only its layer counts memory.")
        ]
    else:
        found = [Reason("status-memory", f"`systemctl status {unit}` shows no memory any more; the layer's does.")]
    if loses_oom_policy(facts, off):
        text = f"OOMPolicy={facts.oom_policy} of {unit} has no effect in `service` tracking: systemd sees no OOM kill."
        found.append(Reason("oom-policy", text))
    elif not off:
        text = (
            f"An OOM kill in {unit} leaves no line of systemd's in the journal in `service` tracking, and Result= does "
            f"not say oom-kill; OOMPolicy={facts.oom_policy} itself holds."
        )
        found.append(Reason("oom-policy", text))
    for name in (facts.home, *ancestors(facts.home)) if not off else ():
        if name in host.oom_kill_units:
            setting = host.oom_kill_units[name]
            text = f"{unit} is no candidate of systemd-oomd in `service` tracking, though {name} has {setting}."
            found.append(Reason("oomd", text))
            break
    return found
