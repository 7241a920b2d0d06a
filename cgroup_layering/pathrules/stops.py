# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which rules treat a service otherwise in its layer than outside of it. Pure.

The layer stands between the service's former parent and its cgroup: `socket cgroupv2 level N` finds the layer where the
service was, and the service one level below (net/netfilter/nft_socket.c: no such level is no match, also for `!=`).
Rules on what is above the service hold as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cgroup_layering.model import PathRule, PathRules, ServiceFacts
from cgroup_layering.naming import layer_name, slice_path, split_layer

NFTSET_VERSION = 255
"""The release of systemd that brought NFTSet=."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a layer does to one rule: how it goes on for the service, and what the rule should say instead."""

    rule: PathRule
    change: str
    instead: str


def layer_path(facts: ServiceFacts) -> str:
    """The layer's cgroup, whether it is there or not."""
    return slice_path(layer_name(facts.unit, facts.home))


def effects(facts: ServiceFacts, found: PathRules, version: int) -> tuple[Effect, ...]:
    """The rules that a layer makes treat the service otherwise; those that name what is above it are not among them."""
    return tuple(_effects(facts, found, version))


def _effects(facts: ServiceFacts, found: PathRules, version: int) -> Iterator[Effect]:
    layer = layer_path(facts)
    # Its layer may get another place: in a domain, or out of one.
    moves = facts.own is not None and slice_path(facts.own.layer) != layer
    was = slice_path(facts.own.layer) if facts.own is not None and moves else slice_path(facts.parent)
    parent = was.rstrip("/")
    depth, deeper = parent.count("/") + 1, layer.count("/") + 1
    # systemd puts a `_` before names that could be taken for kernel files (cg_escape).
    plain = {f"{parent}/{facts.unit}", f"{parent}/_{facts.unit}"}
    if facts.control_group and not _within(facts.control_group, layer):
        plain.add(facts.control_group)
    if moves:
        plain.add(parent)
    sets = {name for _, name in nft_sets(facts)} if version >= NFTSET_VERSION else set()
    for rule in found.rules:
        filled = bool(sets.intersection(rule.sets))
        if filled and rule.level == depth:
            yield Effect(rule, _change(rule), f"say level {deeper}: NFTSet= puts the service's own cgroup into the set")
        elif not filled and any(_within(path, own) for path in rule.paths for own in plain):
            yield Effect(rule, _change(rule), f"{'be attached to' if rule.tool == 'bpf' else 'name'} {layer}")
        elif not filled and rule.negated and rule.level is not None and depth < rule.level <= deeper:
            yield Effect(rule, _change(rule), f"say level {depth}, or name {layer} too")


def named_layers(found: PathRules) -> Iterator[tuple[str, PathRule]]:
    """The services whose layers are named, each with the rule: it matches nothing once the service is un-layered."""
    for rule in found.rules:
        split = (split_layer(part) for path in rule.paths for part in path.split("/"))
        for unit in dict.fromkeys(known[0] for known in split if known is not None):
            yield unit, rule


def nft_sets(facts: ServiceFacts) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """The nftables sets that the unit has systemd put its cgroup into (NFTSet=), each with the file and line."""
    for setting in facts.files.all("Service", "NFTSet"):
        for word in setting.value.split():
            parts = word.strip('"').split(":")
            if len(parts) == 4 and parts[0] == "cgroup":
                yield f"{setting.path}, line {setting.line}", (parts[1], parts[2], parts[3])


def unseen_set(facts: ServiceFacts, found: PathRules, version: int) -> str:
    """A sentence on a set of the unit that no rule was seen to use; empty if there is none."""
    used = {name for rule in found.rules for name in rule.sets}
    for where, name in nft_sets(facts) if version >= NFTSET_VERSION else ():
        if name not in used:
            deeper = layer_path(facts).count("/") + 1
            return (
                f"{facts.unit} puts its cgroup into the nftables set {' '.join(name)} ({where}), and no rule that uses "
                f"it was seen. In its layer the service's cgroup is at level {deeper}: a rule must say that."
            )
    return ""


def _change(rule: PathRule) -> str:
    return "start matching" if rule.negated else "stop matching"


def _within(path: str, cgroup: str) -> bool:
    return path == cgroup or path.startswith(f"{cgroup}/")
