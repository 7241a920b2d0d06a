# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a check is, and what running checks leads to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.errors import CgroupLayeringError

HOST = ""
"""In the place of a unit's name: the finding is about the host."""


@dataclass(frozen=True, slots=True)
class Check:
    """A code and what looks for it: `find` yields the unit (or HOST) and a sentence for each place where it holds.

    `offline` checks are content with files; the others need the running host.
    """

    code: Code
    find: Callable[[Evidence], Iterator[tuple[str, str]]]
    offline: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found; `unit` is empty for the host."""

    code: str
    level: Level
    unit: str
    sentence: str


@dataclass
class Examination:
    """What the checks found, and which could not run: a reason for each code."""

    findings: list[Finding] = field(default_factory=list)
    checks: int = 0
    not_run: dict[str, str] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)
    """What to do about a reason in `not_run`."""
    live_only: list[str] = field(default_factory=list)
    """Codes of checks that need the running host, where only files were asked for."""

    def count(self, level: Level) -> int:
        """How many findings have that level."""
        return sum(finding.level is level for finding in self.findings)


_ORDER = tuple(Level)


def examine(checks: Iterable[Check], evidence: Evidence, host: bool = True) -> Examination:
    """Run the checks, those of the host with `host` alone. What goes wrong in one does not stop the others."""
    result = Examination()
    for check in checks:
        code = check.code
        if code.kind is Kind.HOST and not host:
            continue
        if not check.offline and not evidence.online:
            result.live_only.append(code.name)
            continue
        result.checks += 1
        try:
            found = sorted(set(check.find(evidence)))
        except CgroupLayeringError as error:
            result.not_run[code.name] = str(error)
            if error.hint:
                result.hints[str(error)] = error.hint
            continue
        except Exception as error:
            # A check that meets what it was not made for must not take the others with it.
            result.not_run[code.name] = f"{type(error).__name__}: {error}."
            continue
        assert code.level is not None  # noqa: S101 - codes of checks have one
        result.findings += [Finding(code.name, code.level, unit, sentence) for unit, sentence in found]
    result.findings.sort(key=lambda finding: _ORDER.index(finding.level))
    return result
