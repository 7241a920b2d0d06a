# SPDX-License-Identifier: LGPL-2.1-or-later
"""What looks at cgroups in nftables' language, as `nft -a list ruleset` prints it and as files have it. Pure.

The listing is read as text because its JSON leaves the level of `socket cgroupv2` out (seen with nft 1.1.3).
Source: nft(8); src/parser_bison.y of nftables for where a statement ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cgroup_layering.model import PathRule
from cgroup_layering.pathrules.nftwords import Token, comparison, is_value, paths_of, shown, stale, tokens_of

SetName = tuple[str, str, str]

_HANDLE = re.compile(r"# handle (\d+)\s*$")
_FAMILIES = frozenset(("ip", "ip6", "inet", "arp", "bridge", "netdev"))
_VERBS = frozenset(("add", "create", "insert", "replace"))
_BLOCKS = frozenset(
    ("table", "chain", "set", "map", "flowtable", "counter", "quota", "limit", "ct", "secmark", "synproxy", "tunnel")
)
_DEPTH_LIMIT = 16


@dataclass
class _Block:
    """An open `{`: what it is, and the table and object that it belongs to."""

    kind: str
    table: tuple[str, str] = ("", "")
    name: str = ""


@dataclass
class NftText:
    """What was read so far, over all texts: rules, the members of sets, variables."""

    include: Callable[[str], None] = lambda _pattern: None
    """Called with what stands behind `include`, where it stands."""
    rules: list[PathRule] = field(default_factory=list)
    elements: dict[SetName, list[str]] = field(default_factory=dict)
    _variables: dict[str, Sequence[Token]] = field(default_factory=dict)

    def read(self, text: str, file: str = "") -> None:
        """Take one text in; `file` is its path, empty for the kernel's rules."""
        blocks: list[_Block] = []
        statement: list[Token] = []
        handle = ""
        depth = 0
        for token in tokens_of(text):
            if not token.quoted and token.text.startswith("#"):
                found = _HANDLE.match(token.text)
                handle = found[1] if found else ""
                continue
            if token.quoted or token.text not in ("{", "}", ";", "\n"):
                statement.append(token)
            elif token.text == "{" and not depth and _opens_block(statement, blocks):
                blocks.append(_block(statement, blocks))
                statement = []
            elif token.text == "{":
                depth += 1
                statement.append(token)
            elif depth:
                depth -= token.text == "}"
                if token.text != "\n":
                    statement.append(token)
            else:
                self._statement(statement, blocks[-1] if blocks else _Block("top"), handle, file)
                statement, handle = [], ""
                if token.text == "}" and blocks:
                    blocks.pop()
        self._statement(statement, blocks[-1] if blocks else _Block("top"), handle, file)

    def wanted_sets(self) -> dict[SetName, None]:
        """Named sets and maps that rules look cgroups up in, in the order of the rules."""
        return {name: None for rule in self.rules for name in rule.sets}

    def resolved(self, unreadable: Mapping[SetName, str] | None = None) -> tuple[PathRule, ...]:
        """The rules with the members of their sets; `unreadable` says of which sets members are not known, and why."""
        return tuple(self._resolved(rule, unreadable or {}) for rule in self.rules)

    def _resolved(self, rule: PathRule, unreadable: Mapping[SetName, str]) -> PathRule:
        for name in rule.sets:
            members = self.elements.get(name, [])
            unclear = unreadable.get(name) or stale(members) or ("" if members else "the set is empty now")
            rule = replace(rule, paths=rule.paths + paths_of(members), unclear=rule.unclear or unclear)
        return rule

    def _statement(self, tokens: list[Token], block: _Block, handle: str, file: str) -> None:
        if not tokens:
            return
        words = [token.text for token in tokens]
        if words[0] == "include" and len(words) > 1:
            self.include(words[1])
        elif words[0] in ("define", "redefine") and len(words) > 3 and words[2] == "=":
            self._variables[words[1]] = tokens[3:]
        elif block.kind in ("set", "map"):
            if words[0] == "elements":
                self._add(((*block.table, block.name)), tokens[1:])
        elif block.kind == "top" and words[0] in _VERBS:
            kind, family, rest = words[1] if len(words) > 1 else "", *_family(words[2:])
            if kind == "element" and len(rest) > 2:
                self._add((family, rest[0], rest[1]), tokens[len(words) - len(rest) + 2 :])
            elif kind == "rule" and len(rest) > 2:
                self._rules(tokens, (family, rest[0]), rest[1], handle, file)
        else:
            self._rules(tokens, block.table, block.name, handle, file)

    def _add(self, name: SetName, tokens: Sequence[Token]) -> None:
        members = (token for token in self._expand(tokens) if token.quoted or is_value(token.text))
        self.elements.setdefault(name, []).extend(token.text for token in members)

    def _rules(self, tokens: list[Token], table: tuple[str, str], chain: str, handle: str, file: str) -> None:
        if not any(token.text == "cgroupv2" for token in tokens):
            return
        expanded = list(self._expand(tokens))
        where = f"table {' '.join(table)}, chain {chain}" + (f", handle {handle}" if handle else "")
        for start, token in enumerate(expanded):
            if token.text != "cgroupv2" or start + 2 >= len(expanded) or expanded[start + 1].text != "level":
                continue
            match = comparison(expanded[start + 3 :])
            if match is None or not expanded[start + 2].text.isdigit():
                continue
            negated, values, end = match
            place = f"{file}, line {token.line}" if file else where
            named = [value for value in values if value.quoted or is_value(value.text)]
            sets = tuple((*table, value.text[1:]) for value in values if value.text[:1] == "@" and not value.quoted)
            unknown = next((value.text for value in values if value.text[:1] == "$" and not value.quoted), "")
            self.rules.append(
                PathRule(
                    "nftables",
                    place,
                    shown(expanded[max(0, start - 1) : start + 3 + end]),
                    paths_of([value.text for value in named]),
                    int(expanded[start + 2].text),
                    negated,
                    sets,
                    f"{unknown} is not defined there" if unknown else stale([value.text for value in named]),
                )
            )

    def _expand(self, tokens: Sequence[Token], depth: int = 0) -> Iterator[Token]:
        """Variables replaced by their values; the line stays that of the rule."""
        for token in tokens:
            name = token.text.removeprefix("$") if token.text.startswith("$") and not token.quoted else ""
            if name in self._variables and depth < _DEPTH_LIMIT:
                for inner in self._expand(self._variables[name], depth + 1):
                    yield replace(inner, line=token.line)
            else:
                yield token


def _family(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """A command's family (`ip` where none is given) and what follows."""
    return (words[0], words[1:]) if words and words[0] in _FAMILIES else ("ip", words)


def _head(statement: Sequence[Token]) -> list[str]:
    words = [token.text for token in statement]
    return words[1:] if words and words[0] in _VERBS else words


def _opens_block(statement: Sequence[Token], blocks: Sequence[_Block]) -> bool:
    head = _head(statement)
    return bool(head) and head[0] in _BLOCKS and (not blocks or blocks[-1].kind == "table")


def _block(statement: Sequence[Token], blocks: Sequence[_Block]) -> _Block:
    head = _head(statement)
    if blocks:
        return _Block(head[0], blocks[-1].table, head[-1])
    family, rest = _family(head[1:])
    return _Block(head[0], (family, rest[0] if rest else ""), rest[1] if len(rest) > 1 else "")
