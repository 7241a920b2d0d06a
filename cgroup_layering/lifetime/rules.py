# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rule that says when a layer's cgroup may go, and what it says now. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cgroup_layering.errors import CgroupLayeringError, ExitCode
from cgroup_layering.spans import format_size, parse_size, parse_span

DEFAULT = "installed"


class BadRule(CgroupLayeringError):
    """A text that is no rule."""

    exit_code = ExitCode.USAGE
    hint = "A rule is `installed`, `forever`, `boot`, `idle=SPAN`, `charged=SIZE`, or both as in `idle=1h charged=16M`."

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text, reason)
        self.text = text
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.text!r} is no lifetime: {self.reason}."


class Kind(StrEnum):
    """What a rule goes by."""

    INSTALLED = "installed"
    FOREVER = "forever"
    BOOT = "boot"
    WHEN = "when"


@dataclass(frozen=True, slots=True)
class Rule:
    """A lifetime. `idle_seconds` and `charged_bytes` belong to `when`; where both are set, both must hold."""

    kind: Kind
    idle_seconds: float | None = None
    charged_bytes: int | None = None

    def __str__(self) -> str:
        if self.kind is not Kind.WHEN:
            return self.kind.value
        words = []
        if self.idle_seconds is not None:
            words.append(f"idle={self.idle_seconds:g}s")
        if self.charged_bytes is not None:
            words.append(f"charged={self.charged_bytes}")
        return " ".join(words)


def parse_rule(text: str) -> Rule:
    """The rule that `text` says, such as `installed` or `idle=10min charged=64M`. Raises BadRule."""
    idle: float | None = None
    charged: int | None = None
    stripped = text.strip()
    if stripped in (Kind.INSTALLED, Kind.FOREVER, Kind.BOOT):
        return Rule(Kind(stripped))
    # A span may hold blanks (`idle=1min 30s`): a word without `=` belongs to the one before it.
    words: list[str] = []
    for word in stripped.replace(",", " ").split():
        if "=" in word or not words:
            words.append(word)
        else:
            words[-1] += f" {word}"
    if not words:
        raise BadRule(text, "it is empty")
    for word in words:
        key, separator, value = word.partition("=")
        try:
            if separator and key == "idle" and idle is None:
                idle = parse_span(value)
            elif separator and key == "charged" and charged is None:
                size = parse_size(value)
                if size is None:
                    raise ValueError("`charged=` takes a number of bytes")
                charged = size
            else:
                raise BadRule(text, f"{word!r} is not known, or given twice")
        except ValueError as error:
            raise BadRule(text, str(error)) from error
    return Rule(Kind.WHEN, idle, charged)


class Verdict(StrEnum):
    """What is to be done with a layer."""

    KEEP = "keep"
    REMOVE = "remove"
    START = "start"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a layer when its rule is applied."""

    installed: bool
    """Whether the service's unit exists on the host and is not masked."""
    running: bool
    """Whether the service is active in any way, or a process is in the layer."""
    exists: bool
    """Whether the layer's slice is active, or its cgroup is there."""
    inactive_seconds: float
    """For how long the service has been inactive; of one that never ran, since boot."""
    charged_bytes: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rule says, and why, in half a sentence."""

    verdict: Verdict
    why: str


def decide(rule: Rule, now: Standing) -> Decision:
    """Apply a rule. A layer in which something runs is never removed."""
    if now.running:
        return Decision(Verdict.KEEP, "its service is running")
    if rule.kind is Kind.FOREVER:
        if now.installed and not now.exists:
            return Decision(Verdict.START, "its lifetime is forever")
        if now.installed:
            return Decision(Verdict.KEEP, "its lifetime is forever")
    if not now.exists:
        return Decision(Verdict.KEEP, "it has no cgroup now")
    if rule.kind is Kind.BOOT:
        return Decision(Verdict.KEEP, "its lifetime ends at shutdown")
    if not now.installed:
        return Decision(Verdict.REMOVE, "its service is gone from the system")
    if rule.kind is not Kind.WHEN:
        return Decision(Verdict.KEEP, "its service is installed")
    if rule.idle_seconds is not None and now.inactive_seconds < rule.idle_seconds:
        left = rule.idle_seconds - now.inactive_seconds
        return Decision(
            Verdict.KEEP, f"its service has been inactive for {now.inactive_seconds:.0f} s, {left:.0f} s to go"
        )
    if rule.charged_bytes is not None and now.charged_bytes >= rule.charged_bytes:
        size = format_size(now.charged_bytes)
        return Decision(Verdict.KEEP, f"it holds {size}, not less than {format_size(rule.charged_bytes)}")
    return Decision(Verdict.REMOVE, f"{rule} holds")
