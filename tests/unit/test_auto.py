# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which services `auto` layers, what `exclude` keeps plain, and the file in which `disable` records that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_layering.config.file import merge
from cgroup_layering.config.load import load
from cgroup_layering.config.model import Config, ConfigError
from cgroup_layering.disabled import FILE, Disabled, is_disabled_file, text_of, units_of
from cgroup_layering.lifetime.auto import auto_plan
from cgroup_layering.model import Change, Verdict
from cgroup_layering.own import read_back
from cgroup_layering.planner import Request, plan
from cgroup_layering.policy import Exclusion
from cgroup_layering.render import drop_in_text, slice_text
from cgroup_layering.rooted import ForeignFile, SymlinkInTheWay
from cgroup_layering.store import Store
from tests.layerings import facts, host, layering

HERE = Path("/etc/cgroup-layering/x.toml")
NAMES = st.from_regex(r"[a-z0-9:_.\\-]{1,20}(@[a-z0-9:_.\\-]{0,9})?\.service", fullmatch=True)


def config(text: str) -> Config:
    return merge(Config(), text, HERE)


def test_auto_is_off_unless_told() -> None:
    assert not Config().auto_for("a.service") and not Config().layers_new


def test_the_last_glob_that_matches_holds() -> None:
    both = "[layering]\nauto = true\n[layering.units]\n'a*' = false\n'ab*' = true\n"
    said = config(both)
    assert [said.auto_for(unit) for unit in ("a.service", "ab.service", "b.service")] == [False, True, True]
    some = config("[layering.units]\n'a*' = true\n")
    assert some.layers_new and some.auto_for("a.service") and not some.auto_for("b.service")


def test_exclusions_of_all_files_add_up_and_win(tmp_path: Path) -> None:
    folder = tmp_path / "etc/cgroup-layering"
    folder.mkdir(parents=True)
    (folder / "10.toml").write_text("[layering]\nauto = true\nexclude = ['a*', 'c.service']\n")
    (folder / "20.toml").write_text("[layering]\nexclude = ['b.service']\n")
    said = load(Store(tmp_path))
    assert [said.auto_for(f"{name}.service") for name in "abcd"] == [False, False, False, True]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("[layering]\nauto = 1\n", 2, "true or false"),
        ("[layering]\nauto = 'yes'\n", 2, "true or false"),
        ("[layering.units]\n'a*' = 'x'\n", 2, "true or false"),
        ("[layering]\nexclude = 'a'\n", 2, "list of names"),
        ("[layering]\nexclude = [1]\n", 2, "list of names"),
        ("[layering]\n\nexclud = []\n", 3, "not known"),
        ("auto = true\n", 1, "not known"),
    ],
)
def test_errors_name_file_and_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        config(text)
    assert caught.value.line == line


SHUT = Config(exclusions=(Exclusion("hell*", HERE),))


def test_an_excluded_service_is_refused_unless_named_or_layered() -> None:
    (shut,) = plan(host(facts()), Request(config=SHUT)).services
    assert (shut.verdict, shut.reasons[0].code) == (Verdict.REFUSED, "excluded")
    assert "'hell*' in /etc/cgroup-layering/x.toml" in shut.reasons[0].sentence
    (named,) = plan(host(facts()), Request(config=SHUT, named=frozenset({"hello.service"}))).services
    assert named.verdict is Verdict.LAYERED and [note.code for note in named.notes] == ["excluded"]
    planned = layering()
    there = read_back(Path("/etc/systemd/system") / planned.layer, slice_text(planned), drop_in_text(planned))
    (layered,) = plan(host(facts(own=there)), Request(config=SHUT)).services
    assert layered.verdict is Verdict.LAYERED and [note.code for note in layered.notes] == ["excluded"]


def test_auto_takes_what_is_plain_and_what_a_killed_run_left() -> None:
    said = config("[layering]\nauto = true\nexclude = ['shut.service']\n")
    planned = layering("layered.service", lifetime="")
    path = Path("/etc/systemd/system") / planned.layer
    whole = replace(planned, version="0", migration="")
    done = read_back(path, slice_text(whole), drop_in_text(whole))
    half = read_back(path, slice_text(whole), None)
    plain, shut = facts(unit="plain.service"), facts(unit="shut.service")
    template = facts(unit="t@.service", load_state="template")

    def chosen(**layered: Any) -> dict[str, Change]:
        there = facts(unit="layered.service", drop_in_folder=False, **layered)
        found = auto_plan(host(plain, shut, template, there), said)
        return {service.unit: service.change for service in found.services}

    assert chosen(own=done, slice=planned.layer) == {"plain.service": Change.ADD}
    assert chosen(own=half, slice="system.slice") == {"plain.service": Change.ADD, "layered.service": Change.UPDATE}
    assert chosen(own=done, slice="system.slice") == {"plain.service": Change.ADD, "layered.service": Change.NONE}
    assert auto_plan(host(plain), Config()).services == ()


@given(st.lists(NAMES, min_size=1, max_size=5), st.booleans())
def test_the_file_can_be_read_back(names: list[str], made: bool) -> None:
    text = text_of(names, made)
    if any(not units_of(text_of([name])) for name in names):
        return  # a name that systemd would not take
    assert units_of(text) == sorted(set(names))
    assert is_disabled_file(text, FILE)
    assert not is_disabled_file(text + "# a word of an administrator\n", FILE)
    found = merge(Config(auto=True), text, FILE)
    assert not any(found.auto_for(name) for name in names)


@pytest.mark.parametrize("folder", [True, False])
def test_recording_leaves_no_trace_when_taken_back(tmp_path: Path, folder: bool) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    if folder:
        (etc / "cgroup-layering").mkdir()
    before = sorted(tmp_path.rglob("*"))
    disabled = Disabled(Store(tmp_path))
    disabled.check()
    disabled.add(["b.service"])
    disabled.add(["a.service", "b.service"])
    disabled.add([])
    assert disabled.known() == {"a.service", "b.service"}
    assert disabled.take_out(["c.service"]) == []
    assert disabled.take_out(["b.service", "c.service"]) == ["b.service"]
    assert disabled.known() == {"a.service"}
    assert disabled.take_out(["a.service"]) == ["a.service"]
    assert sorted(tmp_path.rglob("*")) == before


def test_what_others_wrote_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "etc/cgroup-layering/50-disabled.toml"
    path.parent.mkdir(parents=True)
    mine = text_of(["a.service"]) + "# mine\n"
    path.write_text(mine)
    disabled = Disabled(Store(tmp_path))
    for change in (disabled.check, lambda: disabled.add(["b.service"])):
        with pytest.raises(ForeignFile):
            change()
    assert disabled.take_out(["a.service"]) == []
    assert path.read_text() == mine
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SymlinkInTheWay):
        disabled.add(["b.service"])
    assert not (tmp_path / "elsewhere").exists()
