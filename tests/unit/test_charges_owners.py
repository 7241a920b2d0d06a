# SPDX-License-Identifier: LGPL-2.1-or-later
"""From inode numbers to cgroups and units."""

from __future__ import annotations

import pytest

from cgroup_layering.charges.owners import Owners, unit_of
from cgroup_layering.kernel.cgroupfs import CgroupEntry

LAYER = "/system.slice/system-hello.service.slice"


@pytest.fixture
def owners() -> Owners:
    instance = LAYER + "/hello.service"
    paths = ["/", "/system.slice", LAYER, instance, instance + "/worker", LAYER + "2"]
    return Owners(CgroupEntry(path, number) for number, path in enumerate(paths, start=1))


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/", "-.slice"),
        ("/system.slice", "system.slice"),
        (LAYER, "system-hello.service.slice"),
        (LAYER + "/hello.service", "hello.service"),
        ("/system.slice/docker.service/payload/worker", "docker.service"),
        ("/system.slice/_cgroup.service", "cgroup.service"),
        ("/user.slice/user-0.slice/session-1.scope", "session-1.scope"),
        ("/elsewhere", "-.slice"),
    ],
)
def test_unit_of(path: str, unit: str) -> None:
    assert unit_of(path) == unit


def test_both_directions(owners: Owners) -> None:
    assert owners.path(4) == LAYER + "/hello.service"
    assert owners.inode(LAYER + "/hello.service") == 4
    assert owners.inode("") == owners.inode("/") == 1
    assert owners.unit(4) == "hello.service"
    assert len(owners) == 6


def test_what_was_not_there(owners: Owners) -> None:
    assert owners.path(99) is None
    assert owners.unit(99) is None
    assert owners.inode("/absent") is None
    assert owners.below("/absent") == frozenset()


def test_below_is_a_subtree_and_no_name_prefix(owners: Owners) -> None:
    assert owners.below(LAYER) == {3, 4, 5}
    assert owners.below("/") == {1, 2, 3, 4, 5, 6}
