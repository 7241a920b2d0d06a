# SPDX-License-Identifier: LGPL-2.1-or-later
"""At which level a property of a layered service belongs when it is set. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from cgroup_layering.controls import DIRECTIVES, Handling, is_unknown_control
from cgroup_layering.errors import CgroupLayeringError, ExitCode
from cgroup_layering.lifting import LIMITS
from cgroup_layering.model import OwnFiles, Tracking

_ASSIGNMENT = re.compile(r"([A-Za-z][A-Za-z0-9]*)=(.*)")


class Level(StrEnum):
    """Where a property is set."""

    SERVICE = "service"
    LAYER = "layer"
    BOTH = "layer and service"


class BadAssignment(CgroupLayeringError):
    """A word that is no KEY=VALUE."""

    exit_code = ExitCode.USAGE
    hint = "Say it as systemctl set-property does, such as MemoryMax=1G; an empty value resets."

    def __init__(self, word: str, reason: str = "it is not of the form KEY=VALUE") -> None:
        super().__init__(word, reason)
        self.word = word
        self.reason = reason

    def __str__(self) -> str:
        return f"Cannot set {self.word!r}: {self.reason}."


class Unsettable(CgroupLayeringError):
    """A property that can't be set on a service with this layering."""

    def __init__(self, unit: str, key: str, reason: str, hint: str = "") -> None:
        super().__init__(unit, key, reason)
        self.unit = unit
        self.key = key
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"Cannot set {self.key}= of {self.unit}: {self.reason}."


@dataclass(frozen=True, slots=True)
class Assignment:
    """One KEY=VALUE; an empty value resets."""

    key: str
    value: str

    @property
    def word(self) -> str:
        """As systemctl takes it."""
        return f"{self.key}={self.value}"


def parse_assignment(word: str) -> Assignment:
    """The assignment that a word of the command line says. Raises BadAssignment."""
    found = _ASSIGNMENT.fullmatch(word)
    if found is None or not word.isprintable():
        raise BadAssignment(word)
    if found[1] == "Slice":
        raise BadAssignment(word, "the slice of a layered service is its layer; a drop-in can say another parent")
    return Assignment(found[1], found[2])


def level(assignment: Assignment, own: OwnFiles, version: int) -> Level:
    """Where `assignment` belongs with this layering and release of systemd. Raises Unsettable.

    In `service` tracking nothing that switches the memory controller on may be set at the service: systemd does that
    at once, and 257 does not take it back before the next start.
    """
    key, unit = assignment.key, own.unit
    directive = DIRECTIVES.get(key)
    if is_unknown_control(key):
        raise Unsettable(unit, key, "it is not known to this version of cgroup-layering")
    if directive is None or not directive.lives(version):
        return Level.SERVICE
    if Handling.REFUSE in (directive.instance, directive.service):
        raise Unsettable(unit, key, f"it does not go with a layer, as {directive.why}")
    if own.tracking is Tracking.INSTANCE:
        copied = directive.instance is Handling.COPY and (own.limits or key not in LIMITS)
        return Level.BOTH if copied else Level.SERVICE
    other = f"Run `cgroup-layering enable --tracking=instance {unit}` before."
    if key == "MemoryAccounting":
        raise Unsettable(unit, key, "its tracking is `service`, in which the layer alone counts memory", other)
    asks_nothing = assignment.value in directive.harmless or (not assignment.value and bool(directive.harmless))
    if directive.force_instance and not asks_nothing:
        raise Unsettable(unit, key, "its tracking is `service`, and this asks for `instance`", other)
    if directive.service is Handling.KEEP:
        return Level.SERVICE
    if key in LIMITS and not own.limits:
        hint = f"Run `cgroup-layering enable --layer-limits {unit}` before."
        raise Unsettable(unit, key, "it was layered with --no-layer-limits, so nothing would keep to it", hint)
    return Level.LAYER if directive.service is Handling.MOVE else Level.BOTH
