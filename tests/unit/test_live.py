# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the manager says, put over what the files say."""

from __future__ import annotations

import pytest

from cgroup_layering.model import ServiceFacts
from cgroup_layering.systemd.live import LiveState, merge
from tests.layerings import facts

UNIT = {
    "DefaultDependencies": True,
    "RefuseManualStart": False,
    "RefuseManualStop": False,
    "IgnoreOnIsolate": False,
    "ConsistsOf": ["b.service"],
    "RequiredBy": ["a.service", "b.service"],
}
SERVICE = {
    "ControlGroup": "/system.slice/hello.service",
    "Type": "simple",
    "RemainAfterExit": False,
    "KillMode": "control-group",
    "SendSIGKILL": True,
    "Delegate": False,
    "DelegateControllers": [],
    "OOMPolicy": "stop",
    "StandardInput": "null",
    "TTYPath": "",
}


def merged(slice_name: str) -> ServiceFacts:
    state = LiveState(
        "hello.service", ("hello.service",), "loaded", unit_props=UNIT, service_props=SERVICE | {"Slice": slice_name}
    )
    return merge(facts(), state)


def test_whom_a_restart_takes_along() -> None:
    assert merged("system.slice").propagates == ("a.service", "b.service")


@pytest.mark.parametrize(
    ("slice_name", "unclear"),
    [
        ("system.slice", False),
        ("other.slice", True),
        # Our drop-in is there, its slice file has gone: `enable` writes it anew.
        ("system-hello.service.slice", False),
        ("system-other.service.slice", True),
        ("web-hello.service.slice", True),
    ],
)
def test_a_slice_that_the_files_do_not_tell_of(slice_name: str, unclear: bool) -> None:
    found = merged(slice_name).obstacle
    assert (found is not None and found.code == "slice-unclear") == unclear
