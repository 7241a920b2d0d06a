# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lifetimes: what rules say, at any time and in any state; the configuration, line by line."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_layering import render
from cgroup_layering.config.file import merge
from cgroup_layering.config.load import load
from cgroup_layering.config.model import Config, ConfigError
from cgroup_layering.errors import HostUnsuitable
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.kernel.release import check_kernel
from cgroup_layering.lifetime.drain import FILE, Drained, Stopped, drain
from cgroup_layering.lifetime.layers import LayerState
from cgroup_layering.lifetime.rules import BadRule, Kind, Rule, Standing, Verdict, decide, parse_rule
from cgroup_layering.lifetime.steps import steps
from cgroup_layering.model import OwnFiles
from cgroup_layering.own import BOOT_TARGET, read_back
from cgroup_layering.store import Store
from cgroup_layering.unitpaths import ETC
from tests.layerings import layering

HERE = Path("/etc/cgroup-layering/x.toml")
RULES = st.one_of(
    st.sampled_from(("installed", "forever", "boot")).map(parse_rule),
    st.tuples(st.one_of(st.none(), st.floats(0, 1e6)), st.one_of(st.none(), st.integers(0, 1 << 40)))
    .filter(lambda pair: pair != (None, None))
    .map(lambda pair: Rule(Kind.WHEN, *pair)),
)
STANDINGS = st.builds(Standing, st.booleans(), st.booleans(), st.booleans(), st.floats(0, 1e7), st.integers(0, 1 << 40))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("installed", Rule(Kind.INSTALLED)),
        (" forever ", Rule(Kind.FOREVER)),
        ("boot", Rule(Kind.BOOT)),
        ("idle=10min", Rule(Kind.WHEN, 600.0)),
        ("idle=1min 30s", Rule(Kind.WHEN, 90.0)),
        ("charged=16M", Rule(Kind.WHEN, None, 16 << 20)),
        ("idle=1h charged=1M", Rule(Kind.WHEN, 3600.0, 1 << 20)),
        ("charged=1M, idle=1h", Rule(Kind.WHEN, 3600.0, 1 << 20)),
    ],
)
def test_rules_are_read(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule
    assert parse_rule(str(rule)) == rule, "what is written can be read back"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Installed",
        "idle",
        "idle=",
        "idle=x",
        "idle=1h idle=2h",
        "charged=10%",
        "charged=infinity",
        "a=b",
        "boot idle=1h",
    ],
)
def test_what_is_no_rule_is_said_so(text: str) -> None:
    with pytest.raises(BadRule, match="is no lifetime"):
        parse_rule(text)


@given(RULES, STANDINGS)
def test_no_rule_removes_what_runs_or_is_not_there(rule: Rule, now: Standing) -> None:
    verdict = decide(rule, now).verdict
    if now.running:
        assert verdict is Verdict.KEEP
    if verdict is Verdict.REMOVE:
        assert now.exists and not now.running and rule.kind is not Kind.BOOT
        assert not now.installed or rule.kind is Kind.WHEN
    if verdict is Verdict.START:
        assert rule.kind is Kind.FOREVER and now.installed and not now.exists


def test_spans_and_sizes_with_a_clock_of_our_own() -> None:
    """Each long span to the second."""

    def says(text: str, seconds: float, charged: int) -> Verdict:
        return decide(parse_rule(text), Standing(True, False, True, seconds, charged)).verdict

    assert says("idle=1d", 86399, 0) is Verdict.KEEP
    assert says("idle=1d", 86400, 1 << 30) is Verdict.REMOVE
    assert says("charged=1M", 0, 1 << 20) is Verdict.KEEP
    assert says("charged=1M", 0, (1 << 20) - 1) is Verdict.REMOVE
    assert says("idle=1d charged=1M", 86400, 1 << 20) is Verdict.KEEP
    assert says("idle=1d charged=1M", 86399, 0) is Verdict.KEEP
    assert says("idle=1d charged=1M", 86400, 0) is Verdict.REMOVE


def state(**more: object) -> LayerState:
    facts: dict[str, object] = {
        "layer": "system-a.service.slice",
        "unit": "a.service",
        "own": None,
        "standing": Standing(True, False, True, 0, 0),
        "active": True,
    }
    return LayerState(**{**facts, **more})  # type: ignore[arg-type]


def test_an_orphan_goes_unless_something_runs_in_it() -> None:
    (step,) = steps([state()], Config(), "6.12")
    assert step.decision.verdict is Verdict.REMOVE and not step.files_go
    (step,) = steps([state(standing=Standing(True, True, True, 0, 0))], Config(), "6.12")
    assert step.decision.verdict is Verdict.KEEP


def own(wanted_by: str, linked: bool) -> OwnFiles:
    said = layering("a.service", lifetime="", wanted_by=wanted_by)
    found = read_back(ETC / said.layer, render.slice_text(said), render.drop_in_text(said), linked)
    assert found is not None
    return found


def test_half_a_layering_goes_unless_something_runs_in_it() -> None:
    """`systemctl revert` takes the drop-in; what stands in for a rule of the slice file alone holds no more."""
    half = replace(own("", False), drop_in_text=None)
    for running, exists in ((False, True), (False, False), (True, False), (True, True)):
        (step,) = steps([state(own=half, standing=Standing(True, running, exists, 0, 0))], Config(), "6.12")
        assert step.decision.verdict is (Verdict.REMOVE if exists and not running else Verdict.KEEP)
        assert step.files_go is (not (running and exists)) and step.boot is None


@pytest.mark.parametrize(
    ("rule", "wanted_by", "linked", "boot"),
    [
        ("forever", "", False, True),
        ("forever", BOOT_TARGET, False, True),
        ("forever", BOOT_TARGET, True, None),
        ("installed", BOOT_TARGET, True, False),
        ("installed", "", True, False),
        ("installed", "", False, None),
    ],
)
def test_the_link_into_the_boot_follows_the_rule(rule: str, wanted_by: str, linked: bool, boot: bool | None) -> None:
    config = Config(default=parse_rule(rule))
    (step,) = steps([state(own=own(wanted_by, linked))], config, "6.12")
    assert step.boot is boot
    (step,) = steps([state(own=own(wanted_by, linked), gone="masked", masked=True)], config, "6.12")
    assert step.boot is (False if wanted_by or linked else None), "a masked service has no use for it"


@pytest.mark.parametrize(
    ("release", "shrink"),
    [("6.1.0-56-amd64", True), ("6.12.90", True), ("7.0.9", True), ("7.1.0", False), ("7.2.12", False)],
)
def test_dying_cgroups_count_before_they_are_gone_from_the_kernel(release: str, shrink: bool) -> None:
    busy = state(standing=Standing(True, True, True, 0, 0), dying=201)
    assert steps([busy], Config(), release)[0].shrink is shrink
    assert steps([state(standing=busy.standing, dying=200)], Config(), release)[0].shrink is False


@pytest.mark.parametrize("release", ["6.19.11", "6.19.14+deb14-amd64", "7.0.0", "7.0.8-cloud", "7.0"])
def test_kernels_that_hang_are_refused(release: str) -> None:
    with pytest.raises(HostUnsuitable, match="hang"):
        check_kernel(release)


@pytest.mark.parametrize(
    "release", ["6.1.0-56-cloud-amd64", "6.12.117", "6.19.10", "6.20", "7.0.9", "7.1.0", "7.2.12", "weird"]
)
def test_others_are_not(release: str) -> None:
    check_kernel(release)


WRONG = {
    "[lifetime]\ndefault = 'x'\n": (2, "no lifetime"),
    "[lifetime]\n\ndefalt = 'boot'\n": (3, "'defalt' is not known"),
    "[lifetim]\n": (1, "'lifetim' is not known"),
    "[lifetime.units]\n'a.service' = 'idle=x'\n": (2, "time span"),
    "[lifetime]\nunits = 3\n": (2, "is a table"),
    "[reap]\nresidue = 3\n": (2, "in quotes"),
    "[reap]\nresidue = 'infinity'\n": (2, "number of bytes"),
    "[reap]\ndrain = '3 parsec'\n": (2, "time span"),
    "[reap]\ndying = true\n": (2, "number of cgroups"),
    "[reap]\ndying = 0\n": (2, "number of cgroups"),
    "[reap]\nx = \n": (2, "value"),
}


@pytest.mark.parametrize(("text", "expected"), WRONG.items())
def test_errors_name_file_and_line(text: str, expected: tuple[int, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        merge(Config(), text, HERE)
    assert (caught.value.line, expected[1] in str(caught.value)) == (expected[0], True), str(caught.value)
    assert str(caught.value).startswith(f"{HERE}:{expected[0]}: ")


def test_a_reclaim_that_blocks_ends_with_the_deadline(tmp_path: Path) -> None:
    """A full pipe stands for a kernel that is at it: the write sleeps until a signal comes."""
    (tmp_path / "cgroup.controllers").touch()
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "memory.current").write_text(f"{1 << 30}\n")
    (folder / "memory.swap.current").write_text("4096\n")
    os.mkfifo(folder / FILE)
    reader = os.open(folder / FILE, os.O_RDWR | os.O_NONBLOCK)
    try:
        with contextlib.suppress(BlockingIOError):
            while os.write(reader, bytes(4096)):
                pass
        found = drain(CgroupFS(tmp_path), "/a", seconds=0.3)
    finally:
        os.close(reader)
    assert found == Drained(1 << 30, 1 << 30, 4096, 4096, Stopped.DEADLINE)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    vendor, local = tmp_path / "usr/lib/cgroup-layering", tmp_path / "etc/cgroup-layering"
    vendor.mkdir(parents=True)
    local.mkdir(parents=True)
    (vendor / "10-a.toml").write_text("[lifetime]\ndefault = 'boot'\n[reap]\nresidue = '2M'\n")
    (vendor / "50-hidden.toml").write_text("[nonsense]\n")
    (local / "50-hidden.toml").write_text("")
    (local / "20-b.toml").write_text("[lifetime.units]\n'b*.service' = 'forever'\n'bc.service' = 'idle=1h'\n")
    (local / "ignored.conf").write_text("[nonsense]\n")
    config = load(Store(tmp_path))
    rules = [config.rule_for(unit).kind for unit in ("a.service", "bb.service", "bc.service")]
    assert rules == [Kind.BOOT, Kind.FOREVER, Kind.WHEN]
    assert (config.residue_bytes, config.drain_seconds) == (2 << 20, 60.0)
    assert load(Store(tmp_path / "etc")) == Config()
