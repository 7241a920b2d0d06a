# SPDX-License-Identifier: LGPL-2.1-or-later
"""A layered host behaves as before: every behaviour plain, and layered in both trackings, in one machine a group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.vm.fidelity.groups import BATCHES, GROUPS
from tests.vm.fidelity.guest.kit import TRACKINGS, Behaviour
from tests.vm.fidelity.matrix import Matrix, judge, push, run
from tests.vm.machine import Machine

# A batch is one run in the guest, which its first test waits for.
pytestmark = [pytest.mark.long, pytest.mark.timeout(5400)]

CASES = [
    pytest.param(batch, group, behaviour, tracking, id=f"{group}-{behaviour}-{tracking}")
    for batch in BATCHES
    for group in batch
    for behaviour in GROUPS[group]
    for tracking in TRACKINGS
]


@dataclass(frozen=True)
class Seen:
    """What a batch of groups did in one machine."""

    matrix: Matrix
    groups: dict[str, Any]


@pytest.fixture(scope="module")
def batch(request: pytest.FixtureRequest, machine: Machine) -> Seen:
    """A machine is restored, and all behaviours of the groups that are wanted run in it."""
    machine.restore()
    push(machine)
    calls = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    wanted = {call["group"] for call in calls if "behaviour" in call}
    document = run(machine, *(group for group in request.param if group in wanted))
    matrix = Matrix(machine.suite)
    matrix.facts(systemd=document["systemd"], kernel=document["kernel"])
    return Seen(matrix, document["seen"])


@pytest.mark.parametrize(("batch", "group", "behaviour", "tracking"), CASES, indirect=["batch"], scope="module")
def test_layered_as_plain(batch: Seen, group: str, behaviour: Behaviour, tracking: str) -> None:
    """The observations are equal, or differ in what is documented."""
    judge(batch.matrix, group, behaviour, tracking, batch.groups[group][behaviour.name])
