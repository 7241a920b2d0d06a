# SPDX-License-Identifier: LGPL-2.1-or-later
"""One configuration file, read over what the files before it say.

A key that is not known is an error: a rule that is silently ignored would be believed in.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cgroup_layering.config.model import Config, ConfigError
from cgroup_layering.holding.declared import BadHold, read_hold
from cgroup_layering.holding.hostcheck import check
from cgroup_layering.holding.locating import line_of
from cgroup_layering.holding.model import Hold
from cgroup_layering.lifetime.rules import BadRule, Rule, parse_rule
from cgroup_layering.policy import Exclusion
from cgroup_layering.spans import parse_size, parse_span
from cgroup_layering.store import Store


def merge(config: Config, text: str, path: Path, store: Store | None = None) -> Config:
    """`config` with what one file says over it. Raises ConfigError with the file and the line.

    Declared resources are held against the host below the store's root, if there is one.
    """
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeEncodeError) as error:
        found = re.search(r"line (\d+)", str(error))
        reason = re.sub(r" \(at .*\)$", "", str(error))
        raise ConfigError(path, int(found[1]) if found else 0, reason) from error
    return _Reader(text, path, store).merge(config, document)


class _Reader:
    """One file; knows the line of a key, which tomllib does not tell."""

    def __init__(self, text: str, path: Path, store: Store | None) -> None:
        self._lines = text.splitlines()
        self._path = path
        self._store = store

    def merge(self, config: Config, document: Mapping[str, Any]) -> Config:
        self._only(document, ("layering", "lifetime", "reap", "hold"))
        for owner, table in self._table(document, "hold").items():
            homes = {**config.homes, owner: (self._path, self._lines)}
            config = replace(config, holds=config.holds.over(owner, self._hold(owner, table)), homes=homes)
        config = self._layering(config, self._table(document, "layering"))
        lifetime = self._table(document, "lifetime")
        reap = self._table(document, "reap")
        self._only(lifetime, ("default", "units"))
        self._only(reap, ("residue", "drain", "dying"))
        if "default" in lifetime:
            config = replace(config, default=self._rule("default", lifetime["default"]))
        units = self._table(lifetime, "units")
        rules = tuple((glob, self._rule(glob, value)) for glob, value in units.items())
        config = replace(config, lifetimes=config.lifetimes + rules)
        if "residue" in reap:
            config = replace(config, residue_bytes=self._size("residue", reap["residue"]))
        if "drain" in reap:
            config = replace(config, drain_seconds=self._span("drain", reap["drain"]))
        if "dying" in reap:
            if not isinstance(reap["dying"], int) or isinstance(reap["dying"], bool) or reap["dying"] < 1:
                raise self._error("dying", "`dying` takes a number of cgroups, 1 or more")
            config = replace(config, dying=reap["dying"])
        return config

    def _layering(self, config: Config, table: Mapping[str, Any]) -> Config:
        self._only(table, ("auto", "units", "exclude"))
        if "auto" in table:
            config = replace(config, auto=self._truth("auto", table["auto"]))
        units = self._table(table, "units")
        autos = tuple((glob, self._truth(glob, value)) for glob, value in units.items())
        globs = table.get("exclude", [])
        if not isinstance(globs, list) or not all(isinstance(glob, str) for glob in globs):
            raise self._error("exclude", "`exclude` takes a list of names or globs in quotes")
        exclusions = tuple(Exclusion(glob, self._path) for glob in globs)
        return replace(config, autos=config.autos + autos, exclusions=config.exclusions + exclusions)

    def _hold(self, owner: str, table: object) -> Hold | str:
        try:
            found = read_hold(owner, table)
            if self._store is not None:
                check(found, self._store)
        except BadHold as error:
            return str(ConfigError(self._path, line_of(self._lines, owner, error.keys), error.reason))
        return found

    def _error(self, key: str, reason: str) -> ConfigError:
        quoted = re.escape(key)
        pattern = re.compile(rf"""\s*(?:\[[^\]]*\b{quoted}\b|(?:[\w.]+\.)?(?:"{quoted}"|'{quoted}'|{quoted})\s*[=.])""")
        numbers = (number for number, line in enumerate(self._lines, 1) if pattern.match(line))
        return ConfigError(self._path, next(numbers, 0), reason)

    def _only(self, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                raise self._error(key, f"the key {key!r} is not known here; known are {', '.join(known)}")

    def _table(self, table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        value = table.get(key, {})
        if not isinstance(value, dict):
            raise self._error(key, f"`{key}` is a table, not a value")
        return value

    def _truth(self, key: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self._error(key, f"`{key}` takes true or false, without quotes")
        return value

    def _text(self, key: str, value: Any, what: str) -> str:
        if not isinstance(value, str):
            raise self._error(key, f"`{key}` takes {what} in quotes")
        return value

    def _rule(self, key: str, value: Any) -> Rule:
        try:
            return parse_rule(self._text(key, value, "a lifetime"))
        except BadRule as error:
            raise self._error(key, str(error).rstrip(".")) from error

    def _size(self, key: str, value: Any) -> int:
        try:
            size = parse_size(self._text(key, value, "a size"))
        except ValueError as error:
            raise self._error(key, str(error)) from error
        if size is None:
            raise self._error(key, f"`{key}` takes a number of bytes")
        return size

    def _span(self, key: str, value: Any) -> float:
        try:
            return parse_span(self._text(key, value, "a time span"))
        except ValueError as error:
            raise self._error(key, str(error)) from error
