# SPDX-License-Identifier: LGPL-2.1-or-later
"""The configuration as it was read: what holds by default, and for which service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.holding.model import Holds
from cgroup_layering.lifetime.rules import DEFAULT, Rule, parse_rule
from cgroup_layering.policy import Exclusion, excluded_by


class ConfigError(CgroupLayeringError):
    """A configuration file that can't be taken, and where."""

    hint = "See cgroup-layering.toml(5)."

    def __init__(self, path: Path, line: int, reason: str) -> None:
        super().__init__(path, line, reason)
        self.path = path
        self.line = line
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}." if self.line else f"{self.path}: {self.reason}."


@dataclass(frozen=True)
class Config:
    """What the files say, or the defaults."""

    default: Rule = field(default_factory=lambda: parse_rule(DEFAULT))
    lifetimes: tuple[tuple[str, Rule], ...] = ()
    """Globs of service names and their rules; the last that matches holds."""
    residue_bytes: int = 1 << 20
    """A layer that holds more than this after draining stays, unless it is forced."""
    drain_seconds: float = 60.0
    dying: int = 200
    """Dying cgroups below a layer from which on they are drained (kernels before 7.1)."""
    auto: bool = False
    """Whether services are layered by `reap` when they appear."""
    autos: tuple[tuple[str, bool], ...] = ()
    """Globs of service names, and whether that holds for them; the last that matches counts."""
    exclusions: tuple[Exclusion, ...] = ()
    holds: Holds = field(default_factory=Holds)
    """Persistent resources; a bad declaration is a sentence there and spoils nothing else."""
    homes: Mapping[str, tuple[Path, Sequence[str]]] = field(default_factory=dict)
    """The file that each of them is declared in, and its lines."""

    @property
    def layers_new(self) -> bool:
        """Whether any service at all may be layered when it appears."""
        return self.auto or any(auto for _, auto in self.autos)

    def auto_for(self, unit: str) -> bool:
        """Whether a service that appears is layered without being asked for."""
        wanted = next((auto for glob, auto in reversed(self.autos) if fnmatchcase(unit, glob)), self.auto)
        return wanted and excluded_by(unit, self.exclusions) is None

    def rule_for(self, unit: str) -> Rule:
        """The rule of a service that has none of its own."""
        return next((rule for glob, rule in reversed(self.lifetimes) if fnmatchcase(unit, glob)), self.default)
