# SPDX-License-Identifier: LGPL-2.1-or-later
"""When the monitor looks: storms are one look, rules have their moments, and what was tried waits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_layering.config.model import Config
from cgroup_layering.lifetime.agenda import (
    AT_MOST,
    GRACE,
    QUIET,
    RELOAD_AT_MOST,
    RETRY,
    Agenda,
    Debounce,
    is_work,
    moment,
)
from cgroup_layering.lifetime.layers import LayerState
from cgroup_layering.lifetime.rules import Standing, parse_rule
from cgroup_layering.lifetime.steps import Step, steps
from tests.layerings import own_files

ETC = Path("/etc/systemd/system")


def test_a_storm_is_one_look() -> None:
    debounce = Debounce()
    assert [debounce.moment] == [None]
    debounce.note(100.0)
    assert debounce.moment == 100.0 + QUIET
    debounce.note(100.3)
    assert debounce.moment == 100.3 + QUIET
    for tenth in range(100):
        debounce.note(100.3 + tenth / 10)
    assert debounce.moment == 100.0 + AT_MOST, "a storm that never ends is looked at all the same"
    debounce.done()
    assert debounce.moment is None


def test_a_reload_is_waited_for_but_not_for_ever() -> None:
    debounce = Debounce()
    debounce.reloading(100.0)
    debounce.note(100.0)
    assert debounce.moment == 100.0 + RELOAD_AT_MOST
    debounce.reloaded()
    debounce.note(101.0)
    assert debounce.moment == 101.0 + QUIET


def step(lifetime: str = "installed", gone: str = "", dying: int = 0, unit: str = "hello.service", **now: Any) -> Step:
    files = own_files(unit, lifetime)
    standing = replace(Standing(not gone, False, True, 0.0, 0), **now)
    (found,) = steps([LayerState(files.layer, unit, files, standing, True, gone, dying=dying)], Config(), "6.12")
    return found


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (step("installed"), None),
        (step("boot"), None),
        (step("forever"), None),
        (step("forever", exists=False), 1000.0),
        (step("idle=1d", running=True), None),
        (step("idle=1d", exists=False), None),
        (step("idle=1d", inactive_seconds=86000), 1400.0),
        (step("idle=1d", inactive_seconds=86400), 1000.0),
        (step("charged=1M", charged_bytes=1 << 20), 1000.0 + RETRY),
        (step("charged=1M", charged_bytes=1), 1000.0),
        (step("idle=1h charged=1M", charged_bytes=1 << 20), 4600.0),
        (step("idle=1h charged=1M", charged_bytes=1 << 20, inactive_seconds=3600), 1000.0 + RETRY),
        (step("installed", gone="gone"), 1000.0 + GRACE),
        (step("installed", gone="gone", exists=False), 1000.0 + GRACE),
        (step("installed", dying=1000, running=True), 1000.0),
    ],
)
def test_moments(what: Step, expected: float | None) -> None:
    assert moment(what, 1000.0) == expected


@given(
    st.sampled_from(("installed", "boot", "forever", "idle=1h", "charged=1M", "idle=1h charged=1M")),
    st.builds(Standing, st.booleans(), st.booleans(), st.booleans(), st.floats(0, 1e5), st.integers(0, 1 << 21)),
)
def test_at_its_moment_a_rule_holds_or_is_looked_at_later(rule: str, now: Standing) -> None:
    """No moment may be due at once and have nothing to do: that would be a loop."""
    files = own_files(lifetime=rule)
    (found,) = steps([LayerState(files.layer, files.unit, files, now, True)], Config(), "7.2")
    when = moment(found, 0.0)
    if when is not None and when <= 0.0:
        assert is_work(found)
    if parse_rule(rule).kind in ("installed", "boot") and now.installed:
        assert when is None


def test_what_was_tried_waits_unless_its_service_moves() -> None:
    agenda, due = Agenda(), step("charged=1M")
    layer = due.state.layer
    agenda.update([due], None, 100.0)
    assert agenda.due(100.0) == ({layer}, set())
    agenda.tried({layer}, 100.0)
    agenda.update([due], None, 101.0)
    assert agenda.due(101.0) == (set(), set()) and [agenda.next] == [100.0 + RETRY]
    agenda.forget_tries(layer)
    agenda.update([due], {layer}, 102.0)
    assert agenda.due(102.0) == ({layer}, set())
    agenda.tried({layer}, 102.0)
    agenda.update([], {layer}, 103.0)
    assert [agenda.next] == [None], "it is gone"
    agenda.update([due], {layer}, 104.0)
    assert agenda.due(104.0) == ({layer}, set()), "and is there again"


def test_a_try_of_one_thing_is_none_of_another() -> None:
    """The layer goes by its rule; while that is done the service is taken from the system, and its files are due."""
    agenda, idle, gone = Agenda(), step("charged=1M"), step("charged=1M", gone="gone", exists=False)
    layer = idle.state.layer
    agenda.update([idle], None, 100.0)
    agenda.tried({layer}, 100.0)
    for second in range(101, 105):
        agenda.update([gone], None, float(second))
    assert agenda.next == 101.0 + GRACE
    agenda.tried({layer}, 120.0)
    agenda.update([gone], None, 121.0)
    assert agenda.next == 120.0 + RETRY, "and that was tried now"


def test_dying_cgroups_are_not_drained_at_every_restart() -> None:
    agenda, due = Agenda(), step("installed", dying=1000, running=True)
    layer = due.state.layer
    agenda.update([due], None, 100.0)
    agenda.tried({layer}, 100.0)
    agenda.forget_tries(layer)
    agenda.update([due], {layer}, 101.0)
    assert agenda.next == 100.0 + RETRY


def test_grace_is_counted_from_the_first_look() -> None:
    agenda, gone = Agenda(), step(gone="gone")
    for second in range(8):
        agenda.update([gone], None, 100.0 + second)
        assert agenda.due(100.0 + second) == (set(), set())
    assert [agenda.next] == [100.0 + GRACE]
    agenda.update([step()], None, 109.0)
    assert [agenda.next] == [None], "it came back"
    agenda.update([gone], None, 200.0)
    assert agenda.next == 200.0 + GRACE


def test_a_partial_look_leaves_the_others_alone() -> None:
    agenda, one, two = Agenda(), step("idle=1h"), step("idle=2h", unit="other.service")
    agenda.update([one, two], None, 0.0)
    agenda.update([step("idle=1h", running=True)], {one.state.layer}, 1.0)
    assert agenda.next == 7200.0
