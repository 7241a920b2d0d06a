# SPDX-License-Identifier: LGPL-2.1-or-later
"""All behaviours there are, by group: what the tests run, and the rows of the page."""

from __future__ import annotations

from tests.vm.fidelity.guest import delegation, filters, kinds, memory, oom, oomd, shares, views
from tests.vm.fidelity.guest.kit import Behaviour

GROUPS: dict[str, list[Behaviour]] = {
    "oom": oom.BEHAVIOURS,
    "memory": memory.BEHAVIOURS,
    "shares": shares.BEHAVIOURS,
    "filters": filters.BEHAVIOURS,
    "kinds": kinds.BEHAVIOURS,
    "delegation": delegation.BEHAVIOURS,
    "oomd": oomd.BEHAVIOURS,
    "views": views.BEHAVIOURS,
}
SOFT_REBOOT = "Soft-reboot: who survives, and the layers"
BATCHES = (("filters", "views", "kinds", "delegation"), ("shares", "oom", "memory", "oomd"))
"""Groups that run in one machine, in this order: those that bend the whole host come last."""


def rows(group: str) -> list[str]:
    """The names of a group's behaviours, with those that have a test of their own."""
    return [behaviour.name for behaviour in GROUPS[group]] + ([SOFT_REBOOT] if group == "kinds" else [])
