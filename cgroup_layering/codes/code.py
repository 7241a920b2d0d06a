# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a code is, and what `explain` and cgroup-layering-codes(7) say about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Where a code comes from: a decision of `plan`, or a finding of `doctor`."""

    REFUSAL = "refusal"
    EITHER = "refusal or note"
    DEFERRAL = "deferral"
    NOTE = "note"
    HOST = "finding about the host"
    DRIFT = "finding about drift"
    RISK = "finding about a risk"


class Level(StrEnum):
    """How bad a finding is: notes alone leave `doctor` with exit code 0."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Code:
    """One code. Texts are sentences in the words of the manual, with its marks (*file*, `command`).

    `level` is None for decisions. `summary` is one sentence, `means` goes on from there; it and `matters` can be empty.
    """

    name: str
    kind: Kind
    summary: str
    remedy: str
    means: str = ""
    matters: str = ""
    sources: tuple[str, ...] = ()
    level: Level | None = None

    @property
    def is_finding(self) -> bool:
        """Whether `doctor` reports it."""
        return self.level is not None
