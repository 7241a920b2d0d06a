# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the rules say about each layer, and what is to be done with it. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from cgroup_layering.config.model import Config
from cgroup_layering.kernel.release import kernel_version
from cgroup_layering.lifetime.layers import LayerState
from cgroup_layering.lifetime.rules import Decision, Kind, Rule, Verdict, decide, parse_rule

INHERITED = ""
"""The lifetime that a slice file says where the configuration decides."""


@dataclass(frozen=True)
class Step:
    """What is to be done with one layer: its rule, what that says, and whether its files go too."""

    state: LayerState
    rule: Rule
    decision: Decision
    files_go: bool
    shrink: bool = False
    """Whether its dying cgroups are too many."""
    boot: bool | None = None
    """Whether a link should start it at boot; None where that is so already."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self.decision.verdict is Verdict.KEEP and not self.files_go and not self.shrink and self.boot is None


def rule_of(state: LayerState, config: Config) -> Rule:
    """The rule of a layer: its own, or the configuration's; that of an orphan goes by what is installed."""
    if state.own is None:
        return Rule(Kind.INSTALLED)
    return config.rule_for(state.unit) if state.own.lifetime == INHERITED else parse_rule(state.own.lifetime)


def steps(states: Iterable[LayerState], config: Config, release: str = "") -> list[Step]:
    """What the rules say about each layer. Pure. Raises BadRule for a file that says no rule."""
    count_dying = kernel_version(release or os.uname().release) < (7, 1)
    found = []
    for state in states:
        rule = rule_of(state, config)
        decision = decide(rule, state.standing)
        torso = state.own is not None and not state.own.complete
        if (state.own is None or torso) and not state.standing.running:
            why = "its service's drop-in is gone" if torso else "no file of ours describes it any more"
            if state.own is not None and state.own.successor:
                why = f"its service is in {state.own.successor} now"
            decision = Decision(Verdict.REMOVE, why) if state.standing.exists else Decision(Verdict.KEEP, why)
        goes = decision.verdict is Verdict.REMOVE or not state.standing.exists
        files_go = state.own is not None and ((bool(state.gone) and not state.masked) or torso) and goes
        shrink = count_dying and state.dying > config.dying and decision.verdict is Verdict.KEEP
        found.append(Step(state, rule, decision, files_go, shrink, None if files_go else _boot(state, rule)))
    return found


def _boot(state: LayerState, rule: Rule) -> bool | None:
    """What is to be done about a layer's link into the boot: the configuration may have changed, or it was removed."""
    if state.own is None or not state.own.complete:
        return None
    wanted = rule.kind is Kind.FOREVER and not state.gone
    return None if wanted == state.own.linked == bool(state.own.wanted_by) else wanted
