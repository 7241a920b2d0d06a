# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plans in files: what is the same, what is not, and files that are no plans."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cgroup_layering.asked import Asked
from cgroup_layering.cli.planfiles import is_plan_file, read_plan_file, write_plan_file
from cgroup_layering.model import Plan, ServiceFacts, Timing
from cgroup_layering.planfile import HostChanged, PlanFileError, Saved, differences, host_of, parse, restrict, saved
from cgroup_layering.planner import Request, plan
from tests.layerings import facts, host

HERE = host_of("0123456789abcdef")
PATH = Path("plan.json")
RUNS = {"active_state": "active", "sub_state": "running", "control_group": "/system.slice/hello.service"}


def planned(*services: ServiceFacts, migration: str = "20260801T120000Z-0123abcd") -> Plan:
    return plan(host(*services), Request(migration=migration))


def document(found: Plan, **changes: Any) -> dict[str, Any]:
    asked = Asked(limits=True)
    return dict(saved(found, ("hello.service", "a*"), host=HERE, systemd=252, asked=asked)) | changes


def taken(found: Plan) -> Saved:
    return parse(json.dumps(document(found)), PATH)


def compared(before: Plan, now: Plan) -> list[str]:
    return differences(taken(before), now, host=HERE, systemd=252)


def test_the_same_host_gives_the_same_plan_whatever_its_id() -> None:
    before, now = (
        planned(facts("MemoryMax=64M"), facts(unit="a.service")),
        planned(facts("MemoryMax=64M"), facts(unit="a.service"), migration="20270101T000000Z-ffffffff"),
    )
    assert compared(before, now) == []
    assert taken(before).words == ("hello.service", "a*")
    assert taken(before).asked == Asked(limits=True)


def test_rules_on_cgroups_are_ignored_only_if_the_plan_says_so() -> None:
    good = document(planned(facts()))
    for value, expected in ((True, True), (False, False), ("yes", False)):
        text = json.dumps(good | {"asked": good["asked"] | {"ignore_path_rules": value}})
        assert parse(text, PATH).asked.ignore_path_rules is expected
    assert not taken(planned(facts())).asked.ignore_path_rules


@pytest.mark.parametrize(
    ("now", "word"),
    [
        ((facts("MemoryMax=65M"), facts(unit="a.service")), "hello.service"),
        ((facts("MemoryMax=64M"),), "a.service is no longer there"),
        ((facts("MemoryMax=64M"), facts(unit="a.service"), facts(unit="b.service")), "b.service is new"),
        ((facts("MemoryMax=64M", load_state="masked"), facts(unit="a.service")), "hello.service is masked"),
        ((facts("MemoryMax=64M\nSlice=other.slice"), facts(unit="a.service")), "hello.service"),
    ],
)
def test_what_changed_is_named(now: tuple[ServiceFacts, ...], word: str) -> None:
    (found,) = compared(planned(facts("MemoryMax=64M"), facts(unit="a.service")), planned(*now))
    assert word in found


def test_a_service_that_could_not_be_layered_and_now_can() -> None:
    (found,) = compared(planned(facts(load_state="masked")), planned(facts()))
    assert found == "hello.service was refused, and could be layered now."


def test_another_host_and_another_systemd() -> None:
    now = planned(facts())
    assert differences(taken(now), now, host=host_of("f" * 32), systemd=257) == [
        "It was made on another host.",
        "It was made for systemd 252, this is 257.",
    ]
    assert "0123456789abcdef" not in json.dumps(document(now)), "a machine id is confidential"


def test_nothing_is_restarted_that_was_not_to_be() -> None:
    stopped, runs = planned(facts()), planned(facts(**RUNS))
    assert compared(stopped, runs) == compared(runs, stopped) == []
    (service,) = restrict(runs, taken(stopped)).services
    assert service.timing is Timing.NEXT_START and service.reasons[0].code == "not-in-plan"
    assert restrict(runs, taken(runs)) == runs


BROKEN = {
    "[]": "not written by",
    "{": "no JSON",
    "[" * 100_000: "no JSON",
    '{"kind": "cgroup-layering plan", "schema": 99}': "another version",
    '{"kind": "cgroup-layering plan", "schema": 1}': "damaged",
}


@pytest.mark.parametrize(("text", "word"), BROKEN.items(), ids=range(len(BROKEN)))
def test_what_is_no_plan(text: str, word: str) -> None:
    with pytest.raises(PlanFileError, match=word):
        parse(text, PATH)


@pytest.mark.parametrize("name", ["../x", "a b.service", "a.socket", "", "a\n.service"])
def test_names_that_are_none(name: str) -> None:
    good = document(planned(facts()))
    for bad in (
        good | {"services": {name: {"plan": "", "when": None}}},
        good | {"asked": good["asked"] | {"units": [name]}},
    ):
        with pytest.raises(PlanFileError, match="no name of a service"):
            parse(json.dumps(bad), PATH)


def test_files_that_others_may_have_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.json"
    write_plan_file(path, document(planned(facts())))
    for mode in (0o620, 0o602):
        path.chmod(mode)
        with pytest.raises(PlanFileError, match="others than its owner may write"):
            read_plan_file(path)
    path.chmod(0o640)
    assert read_plan_file(path).words == taken(planned(facts())).words
    if os.geteuid() == 0:
        os.chown(path, 4242, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(PlanFileError, match=r"belongs to the user with the id \d+, not to root"):
        read_plan_file(path)


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    good = tmp_path / "plan.json"
    write_plan_file(good, document(planned(facts())))
    assert good.stat().st_mode & 0o777 == 0o600
    assert read_plan_file(good) == taken(planned(facts()))
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(good)
    for path, word in (("no", "no such file"), ("fifo", "not a regular file"), (".", "directory|not a regular file")):
        with pytest.raises(PlanFileError, match=word):
            read_plan_file(tmp_path / path)
    with pytest.raises(PlanFileError, match="symbolic links"):
        write_plan_file(tmp_path / "link", {})


def test_which_words_are_files() -> None:
    assert all(is_plan_file(word) for word in ("./x", "/tmp/plan", "plan.json", "a.plan"))
    assert not any(is_plan_file(word) for word in ("nginx", "a.service", "a*", "planner"))


def test_a_long_list_is_cut() -> None:
    text = str(HostChanged(PATH, [f"u{n}.service is new." for n in range(100)]))
    assert "u19.service" in text and "u20.service" not in text and "80 more services differ." in text
