# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which lines a layer takes over, per directive, tracking and release."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_layering import lifting, trackings
from cgroup_layering.controls import DIRECTIVES, Handling, is_unknown_control, tracking_resets
from cgroup_layering.lifting import Choice, lift
from cgroup_layering.model import Tracking
from cgroup_layering.trackings import ACCEPT
from cgroup_layering.unitfile import parse
from tests.corpus.releases import RELEASES
from tests.layerings import facts, host
from tests.systemd_offline import EXEC, load, needs_systemd, version

VERSIONS = (252, 257, 262)
INSTANCE, SERVICE = Tracking.INSTANCE, Tracking.SERVICE


def choose(
    text: str, wanted: Tracking | None = None, at: int = 252, limits: bool = True, unit: str = "a.service"
) -> Choice:
    service = facts(text, unit)
    return lift(service, host(service, version=at), wanted, limits, accepted=True)


def lines(choice: Choice) -> list[str]:
    return [f"{line.key}={line.value}" for line in choice.lifted]


def known(name: str, at: int) -> bool:
    return DIRECTIVES[name].lives(at)


VALUES = {"MemoryAccounting": "yes", "IOAccounting": "yes", "BlockIOAccounting": "yes", "MemoryZSwapWriteback": "no"}
NOT_FORCED = sorted(name for name, d in DIRECTIVES.items() if d.instance is not Handling.REFUSE)


@pytest.mark.parametrize("at", VERSIONS)
@pytest.mark.parametrize("tracking", Tracking)
@pytest.mark.parametrize("name", NOT_FORCED)
def test_each_directive(name: str, tracking: Tracking, at: int) -> None:
    directive = DIRECTIVES[name]
    value = VALUES.get(name, "77")
    if name in ("Delegate", "ManagedOOMSwap", "ManagedOOMMemoryPressure"):
        value = "no" if name == "Delegate" else "auto"
    if name == "Slice":
        value = "a.slice"
    choice = choose(f"{name}={value}", tracking, at)
    forces = directive.force_instance and value not in directive.harmless
    if tracking is SERVICE and forces and known(name, at):
        assert choice.refusal is not None and choice.refusal.code == "tracking" and name in choice.refusal.sentence
        return
    assert choice.refusal is None and choice.tracking is tracking
    handling = directive.instance if tracking is INSTANCE else directive.service
    lifted = known(name, at) and handling in (Handling.COPY, Handling.MOVE)
    assert lines(choice) == ([f"{name}={value}"] if lifted else [])
    resets = dict(choice.resets)
    if tracking is INSTANCE:
        assert not resets
    elif lifted and handling is Handling.MOVE:
        assert resets[name] == directive.reset
    else:
        # What only the layer's siblings see stays on the service too, and so does what bounds the instance.
        assert name not in resets or name in dict(tracking_resets(at, True, False))


@pytest.mark.parametrize("at", VERSIONS)
@pytest.mark.parametrize(
    "name", ["CPUSetPartition", "OOMRulesMax", "MemoryFuture", "IOLatencyMax", "CPUBurst", "TasksMin"]
)
def test_what_is_not_handled_is_named(name: str, at: int) -> None:
    choice = choose(f"MemoryMax=1G\n{name}=1", None, at)
    if name in DIRECTIVES and not known(name, at):
        assert choice.refusal is None, "what this release ignores is nobody's business"
        return
    assert choice.refusal is not None and choice.refusal.code == "directive"
    assert f"{name}= (/usr/lib/systemd/system/a.service, line 4)" in choice.refusal.sentence
    assert choose(f"{name}=", None, at).refusal is None, "a reset asks for nothing"


@pytest.mark.parametrize("name", ["CPUAffinity", "IOSchedulingClass", "MemoryKSM", "MemoryDenyWriteExecute", "Nice"])
def test_what_only_looks_like_resource_control(name: str) -> None:
    assert not is_unknown_control(name)
    assert choose(f"{name}=1") == Choice(INSTANCE)


@pytest.mark.parametrize("at", VERSIONS)
def test_service_tracking_never_writes_a_startup_key(at: int) -> None:
    # Its mere presence in a drop-in switches the memory controller on, and no value switches it off again.
    keys = [key for key, _ in choose("MemoryMax=1G\nIOWeight=5", SERVICE, at).resets]
    assert not [key for key in keys if key.startswith("Startup") and "Memory" in key]
    assert keys[:3] == ["MemoryAccounting", "MemoryMin", "MemoryLow"] and len(keys) == len(set(keys))
    assert ("MemoryZSwapMax" in keys) == (at >= 253) and ("MemoryPressureWatch" in keys) == (at >= 254)


def test_pressure_watch_that_was_set_is_kept() -> None:
    assert "MemoryPressureWatch" in dict(choose("MemoryPressureWatch=auto", SERVICE, 257).resets)
    for value in ("off", "skip", "yes"):
        assert "MemoryPressureWatch" not in dict(choose(f"MemoryPressureWatch={value}", SERVICE, 257).resets)


@pytest.mark.parametrize("at", VERSIONS)
@pytest.mark.parametrize("key", ["StartupMemoryLow", "StartupMemoryMax", "StartupMemoryHigh", "StartupMemorySwapMax"])
@pytest.mark.parametrize("value", ["1G", "infinity", "0", ""])
def test_startup_memory_forces_instance_tracking(key: str, value: str, at: int) -> None:
    choice = choose(f"{key}={value}", SERVICE, at)
    assert (choice.refusal is not None) == (at >= 254)
    assert choose(f"{key}={value}", None, at).tracking is INSTANCE


@pytest.mark.parametrize(
    ("text", "forced"),
    [
        ("Delegate=yes", True),
        ("Delegate=cpu memory", True),
        ("Delegate=pids", False),
        ("Delegate=no", False),
        ("ManagedOOMSwap=kill", True),
        ("ManagedOOMMemoryPressure=kill", True),
        ("ManagedOOMSwap=kill\nManagedOOMSwap=auto", False),
        ("ManagedOOMPreference=avoid", False),
    ],
)
def test_units_that_can_only_have_instance_tracking(text: str, forced: bool) -> None:
    choice = choose(text, SERVICE)
    assert (choice.refusal is not None and choice.refusal.code == "tracking") is forced
    assert choose(text, None).refusal is None


def test_oomd_rules_keep_the_memory_figures_of_the_instance() -> None:
    assert choose("OOMRules=web", SERVICE, 257).refusal is None
    refusal = choose("OOMRules=web", SERVICE, 262).refusal
    assert refusal is not None and refusal.code == "tracking" and "OOMRules=" in refusal.sentence
    assert choose("OOMRules=web\nOOMRules=", SERVICE, 262).refusal is None
    assert choose("OOMRules=web", None, 262) == Choice(INSTANCE)


def test_a_member_is_no_partition() -> None:
    assert choose("CPUSetPartition=member", None, 262) == Choice(INSTANCE)


@pytest.mark.parametrize("limits", [True, False])
def test_layer_limits(limits: bool) -> None:
    text = "MemoryMax=1G\nMemoryHigh=2G\nMemorySwapMax=3G\nMemoryLow=4M\nCPUWeight=5"
    choice = choose(text, INSTANCE, limits=limits)
    bounds = ["MemoryHigh=2G", "MemoryMax=1G", "MemorySwapMax=3G"]
    assert sorted(lines(choice)) == sorted(["CPUWeight=5", "MemoryLow=4M", *(bounds if limits else [])])
    assert [note.code for note in choice.notes] == ([] if limits else ["no-layer-limits"])


def test_lists_are_lifted_whole_and_single_values_once() -> None:
    text = "IODeviceWeight=/dev/a 1\nIODeviceWeight=\nIODeviceWeight=/dev/b 2\nIODeviceWeight=/dev/c 3"
    text += "\nCPUWeight=1\nCPUWeight=2"
    assert lines(choose(text)) == ["CPUWeight=2", "IODeviceWeight=/dev/b 2", "IODeviceWeight=/dev/c 3"]


def test_a_value_that_was_reset_is_not_lifted() -> None:
    assert lines(choose("MemoryMax=1G\nMemoryMax=")) == []
    assert dict(choose("IOReadBandwidthMax=/ 1M\nIOReadBandwidthMax=", SERVICE).resets)["IOReadBandwidthMax"] == ""


@pytest.mark.parametrize("key", ["MemoryMin", "MemoryLow"])
def test_a_reset_that_shields_from_a_default_above_shields_the_layer_too(key: str) -> None:
    for at, expected in ((252, [f"{key}=0"]), (257, [f"{key}=0"]), (262, [])):
        assert lines(choose(f"{key}=", at=at)) == expected, (
            "with DefaultMemoryLow= gone there is nothing to shield from"
        )


def test_a_startup_limit_that_is_lifted_at_startup_is_lifted_from_the_layer_too() -> None:
    # The key's presence counts: during startup there is no limit, whatever MemoryMax= says.
    assert lines(choose("MemoryMax=1G\nStartupMemoryMax=", at=257)) == ["MemoryMax=1G", "StartupMemoryMax=infinity"]
    assert lines(choose("StartupMemoryLow=", at=262)) == ["StartupMemoryLow=0"]


def test_what_the_service_disables_for_itself_is_not_lifted() -> None:
    # systemd does not write the attributes of a disabled controller (seen on 252, 257 and 262).
    text = "MemoryMax=1G\nMemoryZSwapWriteback=no\nCPUWeight=5\nIOWeight=7\nDisableControllers=memory io"
    assert lines(choose(text, at=257)) == ["CPUWeight=5"]
    assert lines(choose(text + "\nDisableControllers=", at=252)) == ["CPUWeight=5", "MemoryMax=1G", "IOWeight=7"]


@pytest.mark.parametrize("io", ["IOReadBandwidthMax=/ 1M", "IOAccounting=yes", "IOWeight=5"])
def test_the_old_names_count_for_nothing_beside_the_new_ones(io: str) -> None:
    assert not [line for line in lines(choose(f"BlockIOWeight=10\n{io}")) if line.startswith("Block")]
    assert lines(choose("BlockIOWeight=10")) == ["BlockIOWeight=10"]


def test_a_value_that_systemd_cannot_read_leaves_the_one_before() -> None:
    assert lines(choose("MemoryMax=1G\nMemoryMax=2G\nMemoryMax=bogus")) == [
        "MemoryMax=1G",
        "MemoryMax=2G",
        "MemoryMax=bogus",
    ]


def test_io_pressure_watch_moves_with_io() -> None:
    assert "IOPressureWatch" not in dict(choose("", SERVICE, 262).resets)
    assert dict(choose("IOWeight=5", SERVICE, 262).resets)["IOPressureWatch"] == "yes"
    assert "IOPressureWatch" not in dict(choose("IOWeight=5", SERVICE, 257).resets)
    assert "IOPressureWatch" not in dict(choose("IOWeight=5\nIOPressureWatch=no", SERVICE, 262).resets)


def test_a_later_drop_in_that_sets_memory_again_forces_instance_tracking() -> None:
    late = Path("/etc/systemd/system/a.service.d/zzz.conf")
    service = facts("", "a.service")
    for line, forced in (("MemoryMax=1G", True), ("MemoryMax=infinity", False), ("TasksMax=5", False)):
        files = replace(service.files, settings=(*service.files.settings, *parse(f"[Service]\n{line}\n", late)))
        choice = lift(replace(service, files=files), host(service), SERVICE, accepted=True)
        assert (choice.refusal is not None and str(late) in choice.refusal.sentence) is forced


def test_where_a_line_came_from() -> None:
    assert [line.source for line in choose("\nMemoryMax=1G").lifted] == ["/usr/lib/systemd/system/a.service:4"]


def test_specifiers_are_resolved_for_the_slice() -> None:
    text = "IODeviceWeight=/srv/%i 7\nIOReadBandwidthMax=/srv/%%/%p 1M"
    choice = choose(text, SERVICE, unit="db@one.service")
    assert lines(choice) == ["IODeviceWeight=/srv/one 7", "IOReadBandwidthMax=/srv/%%/db 1M"]
    refusal = choose("IODeviceWeight=%S/x 7").refusal
    assert refusal is not None and refusal.code == "specifier" and "%S/x" in refusal.sentence


def test_percent_of_memory_stays_percent() -> None:
    assert lines(choose("MemoryMax=50%\nMemoryHigh=40.5%")) == ["MemoryHigh=40.5%", "MemoryMax=50%"]


def test_accounting_that_is_off_stays_off_below() -> None:
    choice = choose("MemoryAccounting=no")
    assert choice.tracking is SERVICE and [note.code for note in choice.notes] == ["accounting-off"]
    # A limit asks for the controller whatever the accounting says.
    assert choose("MemoryAccounting=no\nMemoryMax=1G").tracking is INSTANCE
    assert choose("MemoryAccounting=no\nMemoryMax=infinity\nMemoryLow=0").tracking is SERVICE
    refusal = choose("MemoryAccounting=no", INSTANCE).refusal
    assert refusal is not None and refusal.code == "tracking"
    assert "MemoryPressureWatch" not in dict(choose("MemoryAccounting=no", at=257).resets), "it had no watch before"
    assert choose("MemoryAccounting=no\nMemoryZSwapMax=0", at=257).tracking is INSTANCE
    # The kernel kills the group as long as a sibling has the controller on; nothing keeps that in a layer.
    killed = facts("MemoryAccounting=no\nOOMPolicy=kill")
    refusal = lift(killed, host(killed), None).refusal
    assert refusal is not None and refusal.code == "oom-policy"
    assert [note.code for note in lift(killed, host(killed), None, accepted=True).notes] == [
        "accounting-off",
        "oom-policy",
    ]
    assert choose("MemoryAccounting=no\nDelegate=yes").tracking is INSTANCE
    service = facts(accounting_default=False)
    assert lift(service, host(service), None).tracking is SERVICE
    service = facts("MemoryAccounting=yes", accounting_default=False)
    assert lift(service, host(service), None).tracking is INSTANCE


def test_what_service_tracking_costs() -> None:
    service = facts("Slice=a-b.slice")
    refusal = lift(service, host(service), SERVICE).refusal
    assert refusal is not None and refusal.code == "oom-policy" and ACCEPT in refusal.sentence
    found = lift(service, host(service, oom_kill_units={"-.slice": "ManagedOOMSwap=kill"}), SERVICE, accepted=True)
    assert [note.code for note in found.notes] == ["status-memory", "oom-policy", "oomd"]
    assert "-.slice has ManagedOOMSwap=kill" in found.notes[2].sentence
    quiet = facts("OOMPolicy=continue")
    silent = lift(quiet, host(quiet), SERVICE).notes
    assert [note.code for note in silent] == ["status-memory", "oom-policy"]
    assert "no line of systemd's in the journal" in silent[1].sentence and "continue itself holds" in silent[1].sentence
    assert lift(service, host(service, oom_kill_units={"-.slice": "ManagedOOMSwap=kill"}), None).notes == ()


def test_other_sections_are_not_looked_at() -> None:
    assert choose("[Unit]\nMemoryMax=1G\nCPUSetPartition=root\n[X-Service]\nMemoryHigh=1G") == Choice(INSTANCE)


def test_every_code_has_a_case_here() -> None:
    texts = [Path(str(module.__file__)).read_text() for module in (lifting, trackings)]
    codes = set(re.findall(r'Reason\(\s*"([a-z-]+)"', "".join(texts)))
    here = Path(__file__).read_text()
    assert codes and not [code for code in codes if f'"{code}"' not in here.rpartition("def ")[0]]


@pytest.mark.parametrize("at", RELEASES)
def test_the_table_has_what_each_release_reads_and_no_more(at: int) -> None:
    assert {name for name in DIRECTIVES if known(name, at)} == set(RELEASES[at])


@needs_systemd
def test_the_table_has_the_directives_of_this_systemd(tmp_path: Path) -> None:
    (tmp_path / "a.service").write_text(EXEC + "".join(f"{name}=1\n" for name in DIRECTIVES))
    lifted = {n for n, d in DIRECTIVES.items() if {d.instance, d.service} & {Handling.COPY, Handling.MOVE}}
    (tmp_path / "b.slice").write_text("[Slice]\n" + "".join(f"{name}=1\n" for name in sorted(lifted)))
    _, talk = load([tmp_path], ["a.service", "b.slice"])
    in_service, in_slice = (
        set(re.findall(rf"{unit}:\d+: Unknown key(?: name)? '(\w+)' in section", talk))
        for unit in ("a.service", "b.slice")
    )
    future = {n for n, d in DIRECTIVES.items() if d.since > version()}
    assert future <= in_service and future & lifted <= in_slice
    assert not {n for n in (in_service | in_slice) & lifted if known(n, version())}
