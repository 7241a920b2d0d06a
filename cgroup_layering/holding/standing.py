# SPDX-License-Identifier: LGPL-2.1-or-later
"""How holders stand: in words, from systemd and from what their last run left."""

from __future__ import annotations

from collections.abc import Iterable

from cgroup_layering.holding.names import holder_name
from cgroup_layering.holding.state import report_of
from cgroup_layering.systemd.manager import SERVICE, UNIT, Manager

WELL = "ran well"
WAITS = "waits for the next start"


def holder_states(manager: Manager, owners: Iterable[str]) -> dict[str, str]:
    """A few words on the holder of each service or domain: how its last run went. Raises BusError."""
    names = {owner: holder_name(owner) for owner in owners}
    states = manager.properties(names.values(), UNIT, ("ActiveState",))
    results = manager.properties(names.values(), SERVICE, ("Result",))
    return {
        owner: _words(owner, str(states[name].get("ActiveState")), str(results[name].get("Result")))
        for owner, name in names.items()
    }


def _words(owner: str, state: str, result: str) -> str:
    report = report_of(owner)
    if state == "active":
        notes = " ".join(report.notes) if report else ""
        return f"{WELL}; {notes}" if notes else WELL
    if state in ("activating", "deactivating"):
        return "at work"
    if state != "failed":
        return WAITS
    reasons = " ".join(report.problems) if report else ""
    return f"failed: {reasons or f'result {result}, see `journalctl -u {holder_name(owner)}`.'}"
