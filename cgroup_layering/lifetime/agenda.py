# SPDX-License-Identifier: LGPL-2.1-or-later
"""When the monitor looks, and when what it saw is due. Pure; moments are seconds of the monotonic clock."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from cgroup_layering.lifetime.rules import Kind, Verdict
from cgroup_layering.lifetime.steps import Step

QUIET = 0.5
"""Events that follow each other within this are one."""
AT_MOST = 5.0
"""Events that never stop are looked at so often."""
RELOAD_AT_MOST = 120.0
"""A reload whose end nobody tells of is taken for done."""
GRACE = 10.0
"""A unit file has to be gone for so long: package managers and editors take some away for a moment."""
RETRY = 900.0
"""What `reap` left in place is tried again as often as the timer would; so is a layer that holds too much to go, as the
kernel doesn't tell when a cgroup is charged for less."""


class Debounce:
    """From a storm of events to one look."""

    def __init__(self) -> None:
        self._first = inf
        self._last = 0.0
        self._reload_until = -inf

    def note(self, now: float) -> None:
        """An event that asks for a look."""
        self._first = min(self._first, now)
        self._last = now

    def reloading(self, now: float) -> None:
        """systemd reads everything anew: wait for its word that it is done."""
        self._reload_until = now + RELOAD_AT_MOST

    def reloaded(self) -> None:
        """It is done."""
        self._reload_until = -inf

    def done(self) -> None:
        """The look was taken."""
        self._first = inf

    @property
    def moment(self) -> float | None:
        """When to look; None if nothing happened."""
        if self._first == inf:
            return None
        return max(min(self._last + QUIET, self._first + AT_MOST), self._reload_until)


Work = tuple[Verdict, bool, bool, bool | None]
"""What `reap` would do about a layer: a try of one is none of the other, such as of files that are to go now."""


def is_work(step: Step) -> bool:
    """Whether `reap` would do something about a layer."""
    return step.decision.verdict is not Verdict.KEEP or step.files_go or step.shrink or step.boot is not None


def moment(step: Step, now: float) -> float | None:
    """When a layer needs something done, or another look; None if not before something happens to it."""
    standing = step.state.standing
    if is_work(step):
        return now + GRACE if step.state.gone else now
    if step.rule.kind is not Kind.WHEN or standing.running or not (standing.exists and standing.installed):
        return None
    if step.rule.idle_seconds is not None and standing.inactive_seconds < step.rule.idle_seconds:
        return now + step.rule.idle_seconds - standing.inactive_seconds
    return now + RETRY


def _work(step: Step) -> Work:
    return step.decision.verdict, step.files_go, step.shrink, step.boot


class Agenda:
    """The next moment of every layer."""

    def __init__(self) -> None:
        self._moments: dict[str, float] = {}
        self._ready: set[str] = set()
        """Layers that need something done, as far as was seen; the others need another look."""
        self._work: dict[str, Work] = {}
        """What is to be done about each of them."""
        self._tried: dict[str, dict[Work, float]] = {}
        self._shrinking: set[str] = set()
        """Layers with too many dying cgroups: each restart brings another, so it is no reason to try at once."""

    def update(self, steps: Iterable[Step], layers: Iterable[str] | None, now: float) -> None:
        """What a look at `layers` found, at all of them if None."""
        looked = set(self._moments) if layers is None else set(layers)
        before = {layer: self._moments.pop(layer, inf) for layer in looked}
        former = {layer: self._work.pop(layer) for layer in self._ready & looked}
        self._ready -= looked
        self._shrinking -= looked
        for step in steps:
            layer = step.state.layer
            when = moment(step, now)
            if when is None:
                continue
            if is_work(step):
                self._ready.add(layer)
                work = self._work[layer] = _work(step)
                if step.shrink:
                    self._shrinking.add(layer)
                # The grace is counted from the first look that saw it.
                if former.get(layer) == work:
                    when = min(when, before[layer])
                when = max(when, self._tried.get(layer, {}).get(work, -inf) + RETRY)
            self._moments[layer] = when
        # What was tried and has come about is no try any more: the next time is another.
        for layer in [one for one in self._tried if (layers is None or one in looked) and one not in self._ready]:
            del self._tried[layer]

    def due(self, now: float) -> tuple[set[str], set[str]]:
        """Layers for `reap`, and layers to look at again."""
        come = {layer for layer, when in self._moments.items() if when <= now}
        return come & self._ready, come - self._ready

    def tried(self, layers: Iterable[str], now: float) -> None:
        """`reap` was started for these."""
        for layer in layers:
            self._tried.setdefault(layer, {})[self._work[layer]] = now
            self._moments[layer] = now + RETRY

    def forget_tries(self, layer: str | None = None) -> None:
        """What was tried may be tried again at once: of one layer whose service moved, or of all."""
        for one in list(self._tried) if layer is None else {layer} - self._shrinking:
            self._tried.pop(one, None)

    @property
    def next(self) -> float | None:
        """The first moment of all."""
        return min(self._moments.values(), default=None)
