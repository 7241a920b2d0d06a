# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the fidelity tests judge what was seen on a VM, and the page made of their verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.vm.fidelity import page
from tests.vm.fidelity.groups import BATCHES, GROUPS, rows
from tests.vm.fidelity.guest.kit import Behaviour, Difference, Run, named, normal
from tests.vm.fidelity.matrix import Matrix, judge

LOST = Difference(frozenset({"Result"}), "The result is lost.")


def behaviour(**more: Any) -> Behaviour:
    return Behaviour("It ends", {}, lambda _run: {}, {"Result": "success"}, **more)


def judged(folder: Path, what: Behaviour, tracking: str, **seen: Any) -> dict[str, str]:
    matrix = Matrix("trixie", folder)
    judge(matrix, "kinds", what, tracking, {"missing": ""} | seen)
    return dict(json.loads((folder / "fidelity-trixie.json").read_text())["behaviours"]["kinds"]["It ends"][tracking])


def test_equal_is_a_pass(tmp_path: Path) -> None:
    cell = judged(tmp_path, behaviour(), "instance", plain={"Result": "success"}, instance={"Result": "success"})
    assert cell == {"verdict": "pass", "sentence": ""}


def test_a_known_difference_has_its_sentence(tmp_path: Path) -> None:
    seen = {"plain": {"Result": "success"}, "service": {"Result": "signal"}}
    cell = judged(tmp_path, behaviour(differs={"service": LOST}), "service", **seen)
    assert cell == {"verdict": "difference", "sentence": "The result is lost."}


@pytest.mark.parametrize(
    ("differs", "plain", "layered"),
    [
        ({}, {"Result": "success"}, {"Result": "signal"}),
        ({}, {"Result": "success"}, {}),
        ({}, {"Result": "failed"}, {"Result": "failed"}),
        ({}, {"Result": "success"}, {"error": "it broke"}),
        ({"service": LOST}, {"Result": "success"}, {"Result": "success"}),
        ({"service": LOST}, {"Result": "success", "tasks": 1}, {"Result": "signal", "tasks": 0}),
    ],
    ids=["differs", "lacks a key", "plain proves nothing", "error", "differs no more", "differs in more"],
)
def test_all_else_fails(tmp_path: Path, differs: Any, plain: Any, layered: Any) -> None:
    with pytest.raises(AssertionError):
        judged(tmp_path, behaviour(differs=differs), "service", plain=plain, service=layered)
    document = json.loads((tmp_path / "fidelity-trixie.json").read_text())
    assert document["behaviours"]["kinds"]["It ends"]["service"]["verdict"] == "failed"


def test_what_does_not_apply_says_why(tmp_path: Path) -> None:
    assert judged(tmp_path, behaviour(), "instance", missing="No swap.") == {"verdict": "n/a", "sentence": "No swap."}
    only = behaviour(only_instance="Delegated.")
    assert judged(tmp_path, only, "service", plain={})["sentence"] == "Delegated."


def test_the_journal_is_compared_without_what_differs_by_run() -> None:
    line = "hog-fids.service: Main process exited, pid=12345, code=killed"
    assert named("hog-@V@.service", "service") in line
    assert normal(line, "service") == normal(line.replace("fids", "fidp").replace("12345", "99"), "plain")
    assert Run("service").common("hog-fids.service") == "hog-V.service"


def test_behaviours_have_names_of_their_own_and_run_once() -> None:
    assert sorted(group for batch in BATCHES for group in batch) == sorted(GROUPS) == sorted(page.TITLES)
    for behaviours in GROUPS.values():
        names = [one.name for one in behaviours]
        assert len(set(names)) == len(names)
    units = [name for behaviours in GROUPS.values() for one in behaviours for name in one.services("plain")]
    assert len(set(units)) == len(units), "two behaviours would work on one unit"


POLICY = "OOMPolicy=stop, a child killed by the service's limit"


def release(suite: str, verdict: str) -> dict[str, Any]:
    cells = {"instance": {"verdict": "pass", "sentence": ""}, "service": {"verdict": verdict, "sentence": "Lost."}}
    behaviours = {"oom": {POLICY: cells, "A behaviour of old": cells}}
    return {"suite": suite, "systemd": 257, "kernel": "6.12", "behaviours": behaviours}


def test_the_page_shows_every_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BUILD": tmp_path, "PAGE": tmp_path / "fidelity.md", "KEPT": tmp_path / "seen"}.items():
        monkeypatch.setattr(page, name, value)
    (tmp_path / "seen").mkdir()

    def lines() -> list[str]:
        return (tmp_path / "fidelity.md").read_text().splitlines()

    assert page.main() == 0
    assert f"| {POLICY} | not run | not run | not run | not run | not run | not run |" in lines()
    (tmp_path / "fidelity-trixie.json").write_text(json.dumps(release("trixie", "difference")))
    assert page.main() == 0
    assert f"| {POLICY} | not run | not run | = | ≠ (1) | not run | not run |" in lines()
    assert "1. Lost." in lines()
    assert not any("of old" in line for line in lines()), "no test runs that any more"
    (tmp_path / "fidelity-trixie.json").unlink()
    (tmp_path / "fidelity-forky.json").write_text(json.dumps(release("forky", "failed")))
    assert page.main() == 1, "a fault is told"
    assert f"| {POLICY} | not run | not run | = | ≠ (1) | = | ✗ (1) |" in lines(), "what ran before is kept"


def test_the_page_is_what_the_tests_saw() -> None:
    documents = [page.kept(suite) for suite in page.SUITES]
    assert page.PAGE.read_text() == page.render(documents), "run `make fidelity`"
    for document in documents:
        for group, behaviours in document["behaviours"].items():
            assert behaviours.keys() <= set(rows(group)), "`make fidelity` drops what no test runs any more"
