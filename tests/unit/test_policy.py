# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each reason to refuse or to defer, reached by a case that differs from a plain service in one thing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cgroup_layering import policy
from cgroup_layering.model import Host, Reason, ServiceFacts, Timing, Verdict
from cgroup_layering.planner import Request, plan
from tests.layerings import facts, host

VERSIONS = (252, 257, 262)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


REFUSED: dict[str, tuple[str, ServiceFacts, dict[str, Any]]] = {
    "template": ("template", facts(unit="a@.service", load_state="template"), {}),
    "alias": ("alias", facts(load_state="alias"), {"aliases": {"hello.service": "real.service"}}),
    "masked": ("masked", facts(load_state="masked"), {}),
    "masked by a link": ("masked", facts(unit_file_state="masked"), {}),
    "masked until reboot": ("masked", facts(unit_file_state="masked-runtime"), {}),
    "not found": ("not-found", facts(load_state="not-found"), {}),
    "error": ("bad-unit", facts(load_state="error"), {}),
    "bad setting": ("bad-unit", facts(load_state="bad-setting"), {}),
    "transient": ("transient", facts(transient=True), {}),
    "one per connection": ("connection", facts(unit="ssh@1.service", accept_socket="ssh.socket"), {}),
    "user manager": ("user-session", facts(unit="user@1000.service"), {}),
    "user runtime dir": ("user-session", facts(unit="user-runtime-dir@0.service"), {}),
    "in a user's slice": ("outside-system", facts("Slice=user-1000.slice"), {}),
    "machine": ("outside-system", facts("Slice=machine.slice"), {}),
    "capsule": ("outside-system", facts("Slice=capsule-a.slice"), {}),
    "concurrency": ("concurrency", facts(), {"concurrency_slices": frozenset(("system.slice",))}),
    "concurrency above": ("concurrency", facts("Slice=a-b.slice"), {"concurrency_slices": frozenset(("a.slice",))}),
    "too long": ("name-too-long", facts(unit="x" * 240 + ".service"), {}),
    "holder": ("holder", facts(unit="cgroup-layering-hold@a.service.service"), {}),
    "obstacle": ("symlink", facts(obstacle=Reason("symlink", "hello.service cannot be layered: a link.")), {}),
}


@pytest.mark.parametrize(("code", "service", "changes"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(version: int, code: str, service: ServiceFacts, changes: dict[str, Any]) -> None:
    (found,) = plan(host(service, version=version, **changes), Request()).services
    assert found.verdict is Verdict.REFUSED and found.layering is None
    assert [reason.code for reason in found.reasons] == [code]
    sentence = found.reasons[0].sentence
    assert service.unit in sentence and sentence.endswith(".")


DEFERRED: dict[str, tuple[str, Timing, ServiceFacts, dict[str, Any]]] = {
    "ours": ("caller", Timing.NEXT_BOOT, facts(), {"caller_units": frozenset(("hello.service",))}),
    "early": ("early", Timing.NEXT_BOOT, facts("[Unit]\nDefaultDependencies=no"), {}),
    "leaves processes": ("leftovers", Timing.NEXT_BOOT, facts("KillMode=process"), {}),
    "kills nothing": ("leftovers", Timing.NEXT_BOOT, facts("KillMode=none"), {}),
    "never kills": ("leftovers", Timing.NEXT_BOOT, facts("SendSIGKILL=no"), {}),
    "the bus": ("critical", Timing.NEXT_BOOT, facts(unit="dbus.service"), {}),
    "journald's namespace": ("critical", Timing.NEXT_BOOT, facts(unit="systemd-journald@a.service"), {}),
    "way in": ("critical", Timing.NEXT_BOOT, facts(unit="ssh.service"), {}),
    "containers": ("payload", Timing.NEXT_BOOT, facts(unit="docker.service"), {}),
    "no start by hand": ("no-manual", Timing.NEXT_BOOT, facts("[Unit]\nRefuseManualStart=yes"), {}),
    "no stop by hand": ("no-manual", Timing.NEXT_BOOT, facts("[Unit]\nRefuseManualStop=yes"), {}),
    "isolate": ("isolate", Timing.NEXT_BOOT, facts("[Unit]\nIgnoreOnIsolate=yes"), {}),
    "terminal": ("tty", Timing.NEXT_BOOT, facts("StandardInput=tty"), {}),
    "oneshot": ("oneshot", Timing.NEXT_START, facts("Type=oneshot"), {}),
    "oneshot that stays": ("oneshot", Timing.NEXT_BOOT, facts("Type=oneshot\nRemainAfterExit=yes"), {}),
    "activating": ("changing", Timing.NEXT_START, facts(active_state="activating", sub_state="start"), {}),
    "reloading": ("changing", Timing.NEXT_START, facts(active_state="reloading", sub_state="reload"), {}),
    "crashing": ("changing", Timing.NEXT_START, facts(active_state="activating", sub_state="auto-restart"), {}),
    "job": ("job", Timing.NEXT_START, facts(job="restart"), {}),
    "takes the bus along": ("propagates", Timing.NEXT_BOOT, facts(propagates=("dbus.service",)), {}),
}


def running(service: ServiceFacts) -> ServiceFacts:
    from dataclasses import replace

    state = {} if service.active_state != "inactive" else {"active_state": "active", "sub_state": "running"}
    return replace(service, control_group=f"/system.slice/{service.unit}", **state)  # type: ignore[arg-type]


@pytest.mark.parametrize(("code", "timing", "service", "changes"), DEFERRED.values(), ids=DEFERRED.keys())
def test_deferred(version: int, code: str, timing: Timing, service: ServiceFacts, changes: dict[str, Any]) -> None:
    (found,) = plan(host(running(service), version=version, **changes), Request()).services
    assert found.verdict is Verdict.DEFERRED and found.timing is timing and found.layering is not None
    assert [reason.code for reason in found.reasons] == [code]
    assert service.unit in found.reasons[0].sentence


def test_a_plain_service_is_restarted(version: int) -> None:
    (found,) = plan(host(running(facts()), version=version), Request()).services
    assert (found.verdict, found.timing, found.reasons) == (Verdict.LAYERED, Timing.RESTART, ())


@pytest.mark.parametrize("state", ["inactive", "failed"])
def test_what_does_not_run_needs_no_restart(state: str) -> None:
    service = facts("KillMode=process", unit="dbus.service", active_state=state)
    (found,) = plan(host(service), Request()).services
    assert (found.verdict, found.timing, found.reasons) == (Verdict.LAYERED, Timing.NEXT_START, ())


def test_a_start_job_of_a_dead_service_is_waited_for() -> None:
    (found,) = plan(host(facts(job="start")), Request()).services
    assert found.timing is Timing.NEXT_START and [reason.code for reason in found.reasons] == ["job"]


def test_the_boot_wins_over_the_next_start() -> None:
    service = running(facts("Type=oneshot\nKillMode=process"))
    (found,) = plan(host(service), Request()).services
    assert found.timing is Timing.NEXT_BOOT
    assert sorted(reason.code for reason in found.reasons) == ["leftovers", "oneshot"]


def test_nothing_runs_in_an_image() -> None:
    (found,) = plan(host(facts("Type=oneshot"), online=False), Request()).services
    assert (found.verdict, found.timing) == (Verdict.LAYERED, Timing.NEXT_START)


def test_in_its_layer_already() -> None:
    group = "/system.slice/system-hello.service.slice/hello.service"
    service = facts("KillMode=process", active_state="active", control_group=group)
    (found,) = plan(host(service), Request()).services
    assert (found.verdict, found.timing) == (Verdict.LAYERED, Timing.IN_PLACE)
    # A neighbour whose name begins the same is another place.
    near = facts(active_state="active", control_group="/system.slice/system-hello.service.slice.d/hello.service")
    (found,) = plan(host(near), Request()).services
    assert found.timing is Timing.RESTART


def test_names_that_only_look_like_users() -> None:
    for service in (facts("Slice=users.slice"), facts("Slice=system-user.slice"), facts(unit="userdb.service")):
        (found,) = plan(host(service), Request()).services
        assert found.verdict is Verdict.LAYERED, service.parent


def test_every_code_of_the_policy_has_a_case_here() -> None:
    text = Path(policy.__file__).read_text()
    codes = set(re.findall(r'(?:Reason|_boot|_start)\(\s*"([a-z-]+)"', text))
    tested = {code for code, *_ in REFUSED.values()} | {code for code, *_ in DEFERRED.values()}
    assert len(codes) > 15 and codes <= tested, codes - tested


def test_only_one_reason_is_given_for_a_refusal() -> None:
    service = facts(load_state="masked", transient=True)
    assert policy.refusal(service, Host(252, {})) == Reason("masked", "hello.service is masked, so it never runs.")
