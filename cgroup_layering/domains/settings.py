# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which settings a domain may be given, and what can be said of their values without asking systemd. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from cgroup_layering.controls import DIRECTIVES, Handling
from cgroup_layering.domains.weights import IDLE, MOST
from cgroup_layering.properties import Assignment, BadAssignment, parse_assignment
from cgroup_layering.spans import parse_size

_CONTROLLERS = frozenset(("cpu", "cpuset", "io", "memory", "pids"))
_MORE = frozenset(("CPUQuotaPeriodSec", "MemoryZSwapWriteback", "IPAddressAllow", "IPAddressDeny"))
_FIXED = {
    "MemoryAccounting": "a domain always counts memory",
    "ManagedOOMPreference": "systemd-oomd always passes an empty domain over",
    "Slice": "a domain's place is its name, such as `shop/web`",
    "DisableControllers": "it would take the domain's own limits away",
    "Delegate": "it is a setting of services",
}
_SIZES = ("MemoryMin", "MemoryLow", "MemoryHigh", "MemoryMax", "MemorySwapMax", "MemoryZSwapMax", "MemoryLimit")


def parse_settings(words: Iterable[str], version: int) -> tuple[Assignment, ...]:
    """The settings that words of the command line ask for. Raises BadAssignment."""
    return tuple(_checked(word, version) for word in words)


def _checked(word: str, version: int) -> Assignment:
    key = word.partition("=")[0]
    if key in _FIXED and "=" in word:
        raise BadAssignment(word, _FIXED[key])
    one = parse_assignment(word)
    directive = DIRECTIVES.get(one.key)
    if directive is None or not (_CONTROLLERS & set(directive.controllers) or one.key in _MORE):
        raise BadAssignment(word, f"{one.key} is no limit or weight that a domain can have")
    if Handling.REFUSE in (directive.instance, directive.service) or one.key.startswith("Default"):
        raise BadAssignment(word, f"{one.key} does not go with layers")
    if not directive.lives(version):
        raise BadAssignment(word, f"systemd {version} does not read {one.key}=")
    if directive.specifiers and "%" in one.value:
        raise BadAssignment(word, "specifiers such as %i mean nothing in a domain")
    if one.value:
        _check_value(word, one)
    return one


def _check_value(word: str, one: Assignment) -> None:
    """Weights and sizes; the rest is for systemd to judge, which an image can't ask."""
    name = one.key.removeprefix("Startup")
    if name in ("CPUWeight", "IOWeight"):
        idle = name == "CPUWeight" and one.value == IDLE
        if not idle and not (one.value.isdecimal() and 1 <= int(one.value) <= MOST):
            raise BadAssignment(word, f"a weight is a number from 1 to {MOST}")
    elif name in _SIZES and not one.value.endswith("%"):
        try:
            size = parse_size(one.value)
        except ValueError as error:
            raise BadAssignment(word, str(error)) from error
        if size == 0 and name.endswith(("Max", "High", "Limit")) and "Swap" not in name:
            raise BadAssignment(word, "a domain without memory can't hold anything")
