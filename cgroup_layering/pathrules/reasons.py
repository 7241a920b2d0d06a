# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a plan says about rules on cgroups: a refusal or a note for a service, and notes on the host. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterator

from cgroup_layering.model import Host, Reason, ServiceFacts
from cgroup_layering.pathrules.stops import effects, named_layers, nft_sets, unseen_set

PATH_RULE = "path-rule"
"""The code of the refusals."""


def path_rules(facts: ServiceFacts, host: Host) -> tuple[Reason, bool] | None:
    """What a layer does to rules on the service's cgroup, and whether it weighs enough to refuse; None if nothing.

    A service that is layered already is not refused: that would not bring its rule back.
    """
    if host.path_rules is None:
        return None
    found = effects(facts, host.path_rules, host.version)
    if found:
        rule = found[0].rule
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        text = (
            f"In its layer, {rule.tool} would {found[0].change} {facts.unit}: {rule.place}: {rule.text}{more}. "
            f"It must {found[0].instead} then."
        )
        return Reason("path-rule", text), facts.own is None
    text = unseen_set(facts, host.path_rules, host.version)
    return (Reason("path-rule", text), facts.own is None and not host.path_rules.live) if text else None


def host_notes(host: Host) -> tuple[Reason, ...]:
    """What concerns no single service: rules that could not be seen, and rules that don't tell whom they name."""
    if host.path_rules is None:
        return ()
    filled = {name for facts in host.services.values() for _, name in nft_sets(facts)}
    unclear = (
        Reason(
            "path-rule-unclear",
            f"It can't be told which services are meant by {rule.tool} {rule.place}: {rule.text}: {rule.unclear}.",
        )
        for rule in host.path_rules.rules
        if rule.unclear and not filled.intersection(rule.sets)
    )
    return (*(Reason("path-rules-unseen", sentence) for sentence in host.path_rules.unseen), *unclear)


def find(host: Host, layered: Container[str]) -> Iterator[tuple[str, str]]:
    """What is wrong now with rules that name a unit's cgroup, by unit; `host` must have been looked at (`look`).

    Rules that layered services have escaped, and rules on the layer of a service that is not `layered` (any more).
    """
    if host.path_rules is None:
        return
    for facts in host.services.values():
        known = path_rules(facts, host) if facts.own is not None else None
        if known is not None:
            yield facts.unit, known[0].sentence
    for unit, rule in named_layers(host.path_rules):
        if unit not in layered:
            where = f"{rule.place}: {rule.text}"
            yield (
                unit,
                f"{unit} is not layered, and {rule.tool} names its layer: {where}. It matches nothing of {unit}.",
            )
