# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page of faults: every fault that the code knows is on it, with runs, and none ended badly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.vm.faults import page, runs
from tests.vm.faults.kinds import TITLES

ROW = re.compile(r"^\| (?P<title>[^|*]+) \|(?P<cells>( [^|]*\|){3}) (?P<did>[^|]+) \|$", re.MULTILINE)


def rows(text: str) -> dict[str, tuple[list[tuple[int, int]], str]]:
    """Title -> runs and bad ones of each release, and what the program did."""
    found = {}
    for match in ROW.finditer(text):
        numbers = re.findall(r"(\d+) runs?, (\d+) bad", match["cells"])
        found[match["title"]] = ([(int(all_), int(bad)) for all_, bad in numbers], match["did"])
    del found["Fault"]
    return found


def test_the_page_has_the_faults_of_the_code() -> None:
    text = page.PAGE.read_text()
    found = rows(text)
    assert list(found) == list(TITLES.values())
    assert all(cells for cells, _ in found.values()), "a fault was run nowhere"
    assert sum(bad for cells, _ in found.values() for _, bad in cells) == 0
    total = sum(number for cells, _ in found.values() for number, _ in cells)
    ended = sum(int(number) for _, did in found.values() for number in re.findall(r"(\d+)(?:,|$)", did))
    said = sum(int(number) for number in re.findall(r"\*\*(\d+) runs, 0 bad\*\*", text))
    assert total == ended == said >= 200


def test_the_page_is_made_of_the_runs_that_are_kept() -> None:
    assert page.render({suite: runs.records(suite) for suite in page.RELEASES}) == page.PAGE.read_text()


def run(fault: str, **more: Any) -> dict[str, Any]:
    facts = {"suite": "trixie", "systemd": "257", "at": "2026-11-25T12:00:00Z", "step": 1, "name": "open", "exit": 1}
    facts["found"] = {"moved": 2}
    return facts | {"fault": fault, "problems": []} | more


def test_runs_are_counted_by_fault_release_and_end() -> None:
    seen = [
        run("SIGKILL", exit=-9),
        run("SIGKILL", exit=-9),
        run("SIGKILL", name="", exit=0),
        run("reexec", exit=0),
        run("reexec", name="open (missed)"),
    ]
    outside = {key: value for key, value in run("try-power-cut").items() if key not in ("name", "exit")}
    text = page.render({"bookworm": [], "trixie": [*seen, outside], "forky": [run("SIGTERM", exit=143)]})
    found = rows(text)
    assert found[TITLES["SIGKILL"]] == ([(2, 0)], "cut off 2")
    assert found[TITLES["reexec"]] == ([(1, 0)], "done 1")
    assert found[TITLES["try-power-cut"]] == ([(1, 0)], "taken back 1")
    assert found[TITLES["SIGTERM"]] == ([(1, 0)], "interrupted 1")
    assert "**0 runs, 0 bad** | **4 runs, 0 bad** | **1 run, 0 bad**" in text


@pytest.mark.parametrize("why", ["bad", "missing"])
def test_nothing_is_written_of_bad_or_missing_runs(why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    all_runs = [run(key) for key in TITLES]
    if why == "bad":
        all_runs[0]["problems"] = ["a service is down"]
    else:
        del all_runs[0]
    monkeypatch.setattr(page, "records", lambda suite: all_runs if suite == "trixie" else [])
    monkeypatch.setattr(page, "PAGE", tmp_path / "faults.md")
    assert page.main() == 1 and not page.PAGE.exists()
    all_runs[:] = [run(key) for key in TITLES]
    assert page.main() == 0 and page.PAGE.exists()


def test_records_are_read_as_they_were_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "RECORDS", tmp_path)
    assert runs.records("trixie") == []
    (tmp_path / "trixie.jsonl").write_text('{"fault": "SIGKILL"}\n{"fault": "SIGTERM"}\n')
    assert [record["fault"] for record in runs.records("trixie")] == ["SIGKILL", "SIGTERM"]
