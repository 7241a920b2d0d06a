# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which level a property of a layered service is set at."""

from __future__ import annotations

import pytest

from cgroup_layering import render
from cgroup_layering.model import OwnFiles, Tracking
from cgroup_layering.own import read_back
from cgroup_layering.properties import Assignment, BadAssignment, Level, Unsettable, level, parse_assignment
from cgroup_layering.unitpaths import ETC
from tests.layerings import layering


def own(tracking: Tracking, limits: bool = True) -> OwnFiles:
    said = layering(tracking=tracking, limits=limits)
    found = read_back(ETC / said.layer, render.slice_text(said), render.drop_in_text(said))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("word", "instance", "service"),
    [
        ("MemoryMax=1G", Level.BOTH, Level.LAYER),
        ("MemoryLow=", Level.BOTH, Level.LAYER),
        ("CPUWeight=5", Level.BOTH, Level.BOTH),
        ("IOWeight=5", Level.BOTH, Level.LAYER),
        ("IOReadBandwidthMax=/dev/vda 1M", Level.SERVICE, Level.LAYER),
        ("CPUQuota=5%", Level.SERVICE, Level.SERVICE),
        ("TasksMax=5", Level.SERVICE, Level.SERVICE),
        ("Description=of something else", Level.SERVICE, Level.SERVICE),
    ],
)
def test_levels(word: str, instance: Level, service: Level) -> None:
    one = parse_assignment(word)
    assert one.word == word
    assert level(one, own(Tracking.INSTANCE), 257) is instance
    assert level(one, own(Tracking.SERVICE), 257) is service


def test_without_limits_on_the_layer() -> None:
    one = Assignment("MemoryMax", "1G")
    assert level(one, own(Tracking.INSTANCE, limits=False), 257) is Level.SERVICE
    assert level(Assignment("MemoryLow", "1G"), own(Tracking.INSTANCE, limits=False), 257) is Level.BOTH
    with pytest.raises(Unsettable, match="no-layer-limits"):
        level(one, own(Tracking.SERVICE, limits=False), 257)


@pytest.mark.parametrize(
    "word", ["MemoryAccounting=yes", "StartupMemoryMax=1G", "ManagedOOMSwap=kill", "CPUSetPartition=root"]
)
def test_what_would_undo_the_layering(word: str) -> None:
    with pytest.raises(Unsettable) as error:
        level(parse_assignment(word), own(Tracking.SERVICE), 261)
    assert word.partition("=")[0] in str(error.value) and "hello.service" in str(error.value)


def test_what_only_service_tracking_refuses() -> None:
    assert level(Assignment("StartupMemoryMax", "1G"), own(Tracking.INSTANCE), 257) is Level.BOTH
    assert level(Assignment("ManagedOOMSwap", "auto"), own(Tracking.SERVICE), 257) is Level.SERVICE


def test_a_directive_of_another_release_is_systemds_to_refuse() -> None:
    assert level(Assignment("CPUShares", "5"), own(Tracking.INSTANCE), 262) is Level.SERVICE
    with pytest.raises(Unsettable, match="not known"):
        level(Assignment("MemoryFuture", "5"), own(Tracking.INSTANCE), 262)


@pytest.mark.parametrize("word", ["MemoryMax", "=1G", "-p=1", "Memory Max=1", "MemoryMax=1G\nCPUQuota=1%", "Slice=a"])
def test_what_is_no_assignment(word: str) -> None:
    with pytest.raises(BadAssignment):
        parse_assignment(word)
