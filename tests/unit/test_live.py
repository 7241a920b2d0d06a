# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the manager says, put over what the files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from cgroup_layering.model import ServiceFacts
from cgroup_layering.systemd.live import LiveState, merge
from cgroup_layering.systemd.oomd import chooses
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


def test_whether_rules_of_oomd_choose_a_victim(tmp_path: Path) -> None:
    texts = {
        "etc/systemd/oomd/rules.d/all.oomrule": "[Rule]\nSwapUsageMax=90%\nAction=kill-by-swap\nAction=kill-all\n",
        "usr/lib/systemd/oomd/rules.d/all.oomrule": "[Rule]\nAction=kill-by-swap\n",
        "run/systemd/oomd/rules.d/one.oomrule": "[Rule]\nAction=kill-by-pgscan\n",
        "usr/lib/systemd/oomd/rules.d/late.oomrule": "[Rule]\nAction=kill-all\n",
        "usr/lib/systemd/oomd/rules.d/other-section.oomrule": "[Rules]\nAction=kill-all\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "etc/systemd/oomd/rules.d/folder.oomrule").mkdir()
    rules = ("all", "one", "late", "other-section", "folder", "nowhere")
    assert [rule for rule in rules if chooses(rule, tmp_path)] == ["one", "other-section", "folder", "nowhere"]
