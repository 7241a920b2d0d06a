# SPDX-License-Identifier: LGPL-2.1-or-later
"""Collects the rules of this host: those in force and those in files. What can't be looked at is said, never left out.

No tool is run for what can't be there: `socket cgroupv2` needs the kernel module nft_socket, and `-m cgroup` xt_cgroup.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from cgroup_layering.model import PathRule, PathRules, ServiceFacts
from cgroup_layering.pathrules import iptables, programs
from cgroup_layering.pathrules.files import Files
from cgroup_layering.pathrules.nfttext import NftText, SetName
from cgroup_layering.pathrules.saved import saved_rules
from cgroup_layering.pathrules.tools import ToolFailed, Tools

CGROUPS = "/sys/fs/cgroup"
# nft joins its arguments and parses them, so a name that anybody chose must not be more than a name.
_NFT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_PINNED = ("IPIngressFilterPath", "IPEgressFilterPath", "BPFProgram")


class Kernel:
    """Which modules of netfilter are there; `proc` and `lib` are the host's /proc and /lib/modules."""

    def __init__(self, proc: Path = Path("/proc"), lib: Path = Path("/lib/modules")) -> None:
        self._proc = proc
        self._loaded = _words(proc / "modules")
        builtin = _words(lib / platform.release() / "modules.builtin")
        self._builtin = None if builtin is None else {Path(word).name.partition(".")[0] for word in builtin}

    def may_have(self, module: str) -> bool:
        """Whether a module is loaded or built in, or may be."""
        if self._loaded is not None and module in self._loaded:
            return True
        return self._builtin is None or module in self._builtin

    def legacy_tables(self, family: str) -> bool:
        """Whether there are tables of iptables or ip6tables in its legacy variant."""
        return bool(_words(self._proc / "net" / f"{family.removesuffix('tables')}_tables_names"))


def _words(path: Path) -> set[str] | None:
    """The first word of each line, None where it can't be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return {line.split()[0] for line in file if line.strip()}
    except OSError:
        return None


def look(
    services: Iterable[ServiceFacts],
    root: Path = Path("/"),
    tools: Tools | None = None,
    kernel: Kernel | None = None,
    cgroups: str = CGROUPS,
) -> PathRules:
    """The rules below `root`, and those in force if it is the host's own."""
    rules, unseen = saved_rules(Files(root))
    if root != Path("/"):
        return PathRules(rules, unseen)
    if os.geteuid() != 0:
        text = "Root rights are needed to see the rules in force that name services' cgroups; those in files were read."
        return PathRules(rules, (*unseen, text))
    live = _Live(tools or Tools(), kernel or Kernel())
    found = [*live.nftables(), *live.iptables(), *live.programs(tuple(services), cgroups)]
    # A set that is empty in its file is told by the rule in force, if that has members.
    told = {name for rule in found if rule.paths for name in rule.sets}
    rest = (rule for rule in rules if rule.paths or not told.intersection(rule.sets))
    return PathRules((*found, *rest), (*live.unseen, *unseen), live.nft_seen)


class _Live:
    """The rules in force."""

    def __init__(self, tools: Tools, kernel: Kernel) -> None:
        self._tools = tools
        self._kernel = kernel
        self.unseen: list[str] = []
        self.nft_seen = True

    def nftables(self) -> Iterator[PathRule]:
        """Rules of nftables, with the members of the sets that they use."""
        if not self._kernel.may_have("nft_socket"):
            return
        # Terse, as a list of a million addresses is of no interest here.
        text = self._run("nftables rules", "nft", "-a", "-s", "-t", "list", "ruleset")
        if text is None:
            self.nft_seen = False
            return
        listing = NftText()
        listing.read(text)
        unreadable: dict[SetName, str] = {}
        for family, table, name in listing.wanted_sets():
            said = None
            if _NFT_NAME.fullmatch(table) and _NFT_NAME.fullmatch(name):
                # A map can be listed as a map alone; which of the two it is the rule does not say.
                said = self._set("set", family, table, name) or self._set("map", family, table, name)
            if said is None:
                unreadable[family, table, name] = "its members could not be read"
            else:
                listing.read(said)
        yield from listing.resolved(unreadable)

    def _set(self, kind: str, family: str, table: str, name: str) -> str | None:
        try:
            return self._tools.run("nft", "-s", "list", kind, family, table, name)
        except ToolFailed:
            return None

    def iptables(self) -> Iterator[PathRule]:
        """Rules of iptables and ip6tables in both variants."""
        if not self._kernel.may_have("xt_cgroup"):
            return
        for family in ("iptables", "ip6tables"):
            if self._kernel.may_have("nft_compat"):
                yield from self._save(family, "nft")
            if self._kernel.legacy_tables(family):
                yield from self._save(family, "legacy")

    def _save(self, family: str, variant: str) -> Iterator[PathRule]:
        text = self._run(f"{family} rules ({variant})", f"{family}-{variant}-save")
        if text is not None:
            yield from iptables.parse(text, family)

    def programs(self, services: tuple[ServiceFacts, ...], cgroups: str) -> Iterator[PathRule]:
        """bpf programs that are attached to services' cgroups, and not by systemd."""
        text = self._run("bpf programs on cgroups", "bpftool", "-j", "cgroup", "tree", cgroups)
        if text is None:
            return
        try:
            attached = programs.parse_tree(text, cgroups)
        except (ValueError, AttributeError, TypeError) as error:
            self.unseen.append(f"bpf programs on cgroups could not be looked at: `bpftool cgroup tree`: {error}.")
            return
        by_cgroup = {facts.control_group: facts for facts in services if facts.control_group}
        pinned: dict[str, set[int]] = {}
        for program in attached:
            facts = by_cgroup.get(program.cgroup)
            if facts is None:
                continue
            if program.cgroup not in pinned:
                pinned[program.cgroup] = set(self._pinned(facts))
            if program.id not in pinned[program.cgroup]:
                yield program.rule

    def _pinned(self, facts: ServiceFacts) -> Iterator[int]:
        """Ids of the programs that the unit's own settings have systemd attach."""
        for key in _PINNED:
            for setting in facts.files.all("Service", key):
                path = setting.value.rpartition(":")[2] if key == "BPFProgram" else setting.value
                try:
                    yield programs.parse_id(self._tools.run("bpftool", "-j", "prog", "show", "pinned", path))
                except (ToolFailed, ValueError, TypeError):
                    continue

    def _run(self, what: str, tool: str, *words: str) -> str | None:
        try:
            return self._tools.run(tool, *words)
        except ToolFailed as error:
            self.unseen.append(f"{what} that may name services' cgroups could not be looked at: {error}.")
            return None
