# SPDX-License-Identifier: LGPL-2.1-or-later
"""The verbs of `domain` on roots: files alone, byte for byte, and a sentence for each bad declaration."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cgroup_layering.domains.files import Domain, domain_text
from tests.calling import run
from tests.planting import ETC, LIB, SIMPLE, plant, put, snapshot

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="the tool writes only as root"),
]
WEB = f"{ETC}/system-web.domain.slice"
RUN = "run/systemd/system"
LONG = f"{'l' * 120}-{'n' * 110}.service"
DROP_IN = f"{ETC}/front.service.d/zz-cgroup-layering.conf"
UNITS = {
    f"{LIB}/front.service": SIMPLE + "MemoryMax=64M\nCPUWeight=300\n",
    f"{LIB}/back.service": SIMPLE,
    f"{LIB}/idle.service": SIMPLE + "CPUWeight=idle\n",
    f"{LIB}/apart.service": SIMPLE + "Slice=apart.slice\n",
    f"{LIB}/{LONG}": SIMPLE,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "root", UNITS)


def ok(*words: str | Path) -> str:
    done = run(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def settings(root: Path, name: str = WEB) -> dict[str, str]:
    lines = (root / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_a_domain_and_its_members_come_and_go_without_a_trace(root: Path) -> None:
    before = snapshot(root)
    ok("enable", "front.service", "--root", root)
    layered = snapshot(root)
    ok("domain", "create", "web", "MemoryMax=1G", "--root", root)
    ok("domain", "add", "web", "front.service", "back.service", "--root", root)
    assert (root / ETC / "system-web.domain-front.service.slice").exists()
    assert not (root / ETC / "system-front.service.slice").exists()
    drop_in = (root / ETC / "back.service.d/zz-cgroup-layering.conf").read_text()
    assert "Slice=system-web.domain-back.service.slice\n" in drop_in
    ok("domain", "remove", "web", "*", "--root", root)
    ok("domain", "delete", "web", "--root", root)
    assert snapshot(root) == layered
    ok("disable", "front.service", "--root", root)
    assert snapshot(root) == before


def test_disable_takes_a_member_out_for_good(root: Path) -> None:
    before = snapshot(root)
    ok("domain", "create", "web", "--root", root)
    ok("domain", "add", "web", "back.service", "--root", root)
    ok("disable", "back.service", "--root", root)
    ok("domain", "delete", "web", "--root", root)
    assert snapshot(root) == before


def test_every_step_twice_changes_nothing(root: Path) -> None:
    ok("domain", "create", "web", "MemoryMax=1G", "--root", root)
    ok("domain", "add", "web", "front.service", "--root", root)
    once = snapshot(root)
    ok("domain", "create", "web", "MemoryMax=1G", "--root", root)
    ok("domain", "create", "web", "--root", root)
    ok("domain", "add", "web", "front.service", "--root", root)
    ok("enable", "front.service", "--root", root)
    assert snapshot(root) == once


def test_the_weight_is_the_sum_of_the_members(root: Path) -> None:
    ok("domain", "create", "web", "--root", root)
    assert not {"CPUWeight", "IOWeight"} & settings(root).keys()
    ok("domain", "add", "web", "front.service", "--root", root)
    # 100 is what a slice weighs anyway: said, it would switch the controller on.
    assert settings(root)["CPUWeight"] == "300" and "IOWeight" not in settings(root)
    ok("domain", "add", "web", "back.service", "idle.service", "--root", root)
    assert (settings(root)["CPUWeight"], settings(root)["IOWeight"]) == ("400", "300")
    ok("domain", "create", "web/inner", "IOWeight=50", "--root", root)
    ok("domain", "remove", "web", "back.service", "--root", root)
    assert (settings(root)["CPUWeight"], settings(root)["IOWeight"]) == ("400", "250")
    ok("disable", "front.service", "--root", root)
    assert "CPUWeight" not in settings(root) and settings(root)["IOWeight"] == "150"


def test_a_weight_that_is_given_stays(root: Path) -> None:
    ok("domain", "create", "web", "CPUWeight=50", "--root", root)
    ok("domain", "add", "web", "front.service", "back.service", "--root", root)
    assert (settings(root)["CPUWeight"], settings(root)["IOWeight"]) == ("50", "200")
    ok("domain", "create", "web", "CPUWeight=", "--root", root)
    assert settings(root)["CPUWeight"] == "400"


def test_settings_change_one_by_one(root: Path) -> None:
    ok("domain", "create", "web", "MemoryMax=1G", "TasksMax=50%", "--root", root)
    ok("domain", "create", "web", "MemoryMax=2G", "--root", root)
    found = settings(root)
    assert (found["MemoryMax"], found["TasksMax"], found["DefaultDependencies"]) == ("2G", "50%", "no")
    assert found["ManagedOOMPreference"] == "omit"
    ok("domain", "create", "web", "MemoryMax=", "--root", root)
    assert "MemoryMax" not in settings(root)


def test_show_and_dry_runs(root: Path) -> None:
    assert "[Slice]" in ok("domain", "create", "web", "MemoryMax=1G", "--root", root, "--dry-run")
    assert not (root / WEB).exists()
    ok("domain", "create", "web", "MemoryMax=1G", "--root", root)
    before = snapshot(root)
    plan = json.loads(ok("domain", "add", "web", "front.service", "--root", root, "--dry-run", "--json=short"))
    assert plan["services"][0]["layer"] == "system-web.domain-front.service.slice"
    assert [note["code"] for note in plan["notes"]] == ["domain-weight"]
    assert snapshot(root) == before
    ok("domain", "add", "web", "front.service", "--root", root)
    (shown,) = json.loads(ok("domain", "show", "--root", root, "--json=short"))["domains"]
    assert shown["services"] == ["front.service"]
    assert shown["given"] == [{"key": "MemoryMax", "value": "1G"}]
    assert "front.service" in ok("domain", "show", "web", "--root", root)


def test_a_slice_of_its_own_is_left_with_a_word(root: Path) -> None:
    ok("domain", "create", "web", "--root", root)
    done = run("domain", "add", "web", "apart.service", "--root", root)
    assert done.returncode == 0 and "note (domain-slice): apart.service leaves apart.slice" in done.stderr
    ok("domain", "remove", "web", "apart.service", "--root", root)
    assert not (root / ETC / "apart.service.d").exists()


BAD = {
    ("create", "we b"): (2, "blanks"),
    ("create", ""): (2, "empty"),
    ("create", "shop//web"): (2, "a part between slashes is empty"),
    ("create", "web.domain"): (2, "leave out the '.domain'"),
    ("create", "-web"): (2, "can't begin with '-'"),
    ("create", "../web"): (2, "can't begin with '.'"),
    ("create", "web\\x2d"): (2, "backslashes"),
    ("create", "web/web"): (2, "inside one of its own name"),
    ("create", "a/b/c/d/e"): (2, "5 domains deep, and 4 are the most"),
    ("create", "x" * 250): (2, "systemd's limit is 255"),
    ("create", "shop/web"): (4, "There is no domain shop"),
    ("create", "web", "Color=red"): (2, "Color is no limit or weight"),
    ("create", "web", "MemoryMax"): (2, "not of the form KEY=VALUE"),
    ("create", "web", "MemoryMax=-1"): (2, "is not a size"),
    ("create", "web", "MemoryMax=0"): (2, "can't hold anything"),
    ("create", "web", "CPUWeight=0"): (2, "a number from 1 to 10000"),
    ("create", "web", "IOWeight=idle"): (2, "a number from 1 to 10000"),
    ("create", "web", "MemoryAccounting=no"): (2, "always counts memory"),
    ("create", "web", "Slice=user.slice"): (2, "its name"),
    ("add", "none", "front.service"): (4, "There is no domain none"),
    ("add", "web", "missing.service"): (4, "There is no unit missing.service"),
    ("add", "web", "web.slice"): (2, "only services are layered"),
    ("add", "web", "other.service"): (4, "There is no unit"),
    ("add", "shop", "front.service"): (1, f"/{DROP_IN}:5: front.service is in domain web, and a service is in one"),
    ("delete", "web"): (1, "Domain web can't be deleted: front.service is in it"),
    ("delete", "shop"): (1, "it holds the domain shop/inner"),
    ("remove", "web", "missing.service"): (4, "There is no unit missing.service"),
    ("add", "web", LONG): (1, "the name of its layer would have"),
}


@pytest.mark.parametrize(("words", "expected"), BAD.items(), ids=lambda value: " ".join(map(str, value))[:40])
def test_what_can_t_be_is_said_and_nothing_is_written(
    root: Path, words: tuple[str, ...], expected: tuple[int, str]
) -> None:
    if words[0] != "create":
        for name in ("web", "shop", "shop/inner"):
            ok("domain", "create", name, "--root", root)
        ok("domain", "add", "web", "front.service", "--root", root)
    before = snapshot(root)
    # What begins with a dash would be an option.
    done = run("domain", words[0], "--root", root, "--", *words[1:])
    assert (done.returncode, expected[1] in done.stderr) == (expected[0], True), done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(root) == before


def test_what_stays_can_t_be_in_a_domain_that_goes_with_the_next_boot(root: Path) -> None:
    """`--runtime` and `--root` don't go together, so the domain's file is put where `--runtime` would write it."""
    passing = Domain("shop", Path("/", RUN, "system-shop.domain.slice"))
    put(root, {f"{RUN}/{passing.slice}": domain_text(passing, {})})
    ok("enable", "front.service", "--root", root)
    before = snapshot(root)
    done = run("domain", "create", "shop/web", "--root", root)
    assert (done.returncode, snapshot(root)) == (1, before)
    assert "Domain shop goes with the next boot, and domain shop/web does not." in done.stderr
    done = run("domain", "add", "shop", "front.service", "--root", root)
    assert (done.returncode, snapshot(root)) == (1, before)
    assert "Domain shop goes with the next boot, and the layer of front.service does not." in done.stderr
    # What is plain gets a layer that goes with it.
    ok("domain", "add", "shop", "back.service", "--root", root)
    assert (root / RUN / "system-shop.domain-back.service.slice").exists()
    assert not (root / ETC / "back.service.d").exists()
    ok("domain", "remove", "shop", "back.service", "--root", root)
    assert snapshot(root) == before


@pytest.mark.parametrize("place", [ETC, LIB])
def test_a_foreign_slice_of_that_name_is_left_alone(root: Path, place: str) -> None:
    put(root, {f"{place}/system-web.domain.slice": "[Slice]\nMemoryMax=1G\n"})
    before = snapshot(root)
    done = run("domain", "create", "web", "--root", root)
    assert done.returncode == 1 and "did not write is there" in done.stderr
    assert snapshot(root) == before


def test_a_link_in_the_way_is_not_followed(root: Path) -> None:
    (root / "victim").write_text("left alone\n")
    (root / WEB).symlink_to("/victim")
    done = run("domain", "create", "web", "--root", root)
    assert done.returncode == 1
    assert (root / "victim").read_text() == "left alone\n"
    assert (root / WEB).is_symlink()
