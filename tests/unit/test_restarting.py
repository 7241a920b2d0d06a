# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is restarted by whom, in what order and how often."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, cast

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_layering.cli.gates import gate_of
from cgroup_layering.health import unhealthy
from cgroup_layering.model import Timing
from cgroup_layering.policy import deferrals
from cgroup_layering.restarting import Gate, batches, closure, cut_off, leaders
from cgroup_layering.systemd.manager import Manager
from tests.layerings import facts, host

NAMES = [f"{letter}.service" for letter in "abcdef"]
GRAPHS = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from([*NAMES, "x.target"]), max_size=3))


def test_what_a_restart_takes_along() -> None:
    graph = {"a": ["b"], "b": ["c", "a"], "d": ["d"]}
    assert closure("a", graph) == {"b", "c"}
    assert closure("b", graph) == {"a", "c"}
    assert closure("d", graph) == frozenset()


def test_leaders_take_the_others_along() -> None:
    assert leaders(["b", "a", "c"], {"a": ["b"]}) == ["a", "c"]
    assert leaders(["a", "b"], {"a": ["b"], "b": ["a"]}) == ["a"], "of a ring the first one leads"
    assert leaders(["a", "b", "c"], {"x": ["a"], "a": ["m"], "m": ["c"]}) == ["a", "b"]


@given(st.permutations(NAMES), GRAPHS)
def test_every_unit_is_restarted_and_no_leader_by_another(units: list[str], graph: Mapping[str, list[str]]) -> None:
    chosen = leaders(units, graph)
    reached = frozenset(chosen).union(*(closure(unit, graph) for unit in chosen))
    assert reached >= set(units)
    for one in chosen:
        for other in chosen:
            assert one == other or one not in closure(other, graph)


def test_batches() -> None:
    assert list(batches(["a", "b", "c"], 2)) == [["a", "b"], ["c"]]
    assert list(batches(["a", "b", "c"], 0)) == [["a", "b", "c"]]
    assert list(batches([], 0)) == []


def test_when_a_run_ends() -> None:
    assert not cut_off(99, Gate()) and not cut_off(1, Gate(max_failures=2)) and cut_off(2, Gate(max_failures=2))


def test_a_restart_that_would_restart_what_is_never_restarted_live() -> None:
    group = {"active_state": "active", "sub_state": "running"}
    early = facts(
        unit="early.service", default_dependencies=False, control_group="/system.slice/early.service", **group
    )
    leads = facts(control_group="/system.slice/hello.service", propagates=("early.service",), **group)
    ((when, reason),) = deferrals(leads, host(leads, early))
    assert when is Timing.NEXT_BOOT and reason.code == "propagates" and "early.service" in reason.sentence
    ((_, reason),) = deferrals(
        facts(control_group="/x", propagates=("dbus.service",), **group),
        host(facts(control_group="/x", propagates=("dbus.service",), **group)),
    )
    assert "dbus.service" in reason.sentence, "though nobody asked about that one"
    stopped = facts(unit="early.service", default_dependencies=False)
    assert deferrals(leads, host(leads, stopped)) == (), "what does not run is not restarted"


class Answers:
    """A manager whose units have one instance before, and maybe another one after."""

    def __init__(self, *ids: bytes, state: str = "active", result: str = "success") -> None:
        self.ids = list(ids)
        self.state = {"ActiveState": state, "SubState": "running", "ControlGroup": "/g", "Result": result}

    def properties(self, units: Any, _interface: str, names: Any) -> dict[str, dict[str, object]]:
        if "InvocationID" in names:
            return {unit: {"InvocationID": self.ids.pop(0)} for unit in units}
        return {unit: dict(self.state) for unit in units}


def look(answers: Answers, gate: Gate) -> Mapping[str, str]:
    return unhealthy(cast(Manager, answers), ["a.service"], gate, lambda _seconds: None)


def test_health() -> None:
    assert look(Answers(), Gate()) == {}, "nothing was asked for"
    assert look(Answers(b"1", b"1"), Gate(health_seconds=5)) == {}
    assert "restarted again" in look(Answers(b"1", b"2"), Gate(health_seconds=5))["a.service"]
    failed = look(Answers(b"1", b"1", state="failed", result="exit-code"), Gate(health_seconds=5))
    assert "failed (result exit-code)" in failed["a.service"]


def test_health_by_a_command() -> None:
    check = "import os, sys; sys.exit(os.environ['UNIT'] != 'a.service')"
    assert look(Answers(b"1", b"1"), Gate(health_command=(sys.executable, "-c", check))) == {}
    found = look(Answers(b"1", b"1"), Gate(health_command=(sys.executable, "-c", "raise SystemExit(3)")))
    assert "exit code 3" in found["a.service"]
    assert "No such file" in look(Answers(b"1", b"1"), Gate(health_command=("/no/such",)))["a.service"]


@pytest.mark.parametrize(
    "changes",
    [{"now": False, "batch": 2}, {"pause": 5.0}, {"health_cmd": "'"}, {"health_cmd": " "}],
)
def test_options_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(click.UsageError):
        gate_of(**{"now": True, **changes})


def test_options_that_do() -> None:
    assert gate_of(now=True) == Gate()
    assert gate_of(now=True, health_cmd="curl -f 'a b'").health_command == ("curl", "-f", "a b")
