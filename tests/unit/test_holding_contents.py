# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a holder loads, fills, records and compares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cgroup_layering.charges.openfile import open_regular
from cgroup_layering.holding import files, parity
from cgroup_layering.holding.matching import MOST_FILES, TooMany, matches
from cgroup_layering.holding.model import Bound, Hold, Tmpfs
from cgroup_layering.holding.recording import recorded
from cgroup_layering.holding.state import Report, forget, read_state, write_state
from cgroup_layering.holding.tmpfs import STAGE, fill
from cgroup_layering.store import Store


def test_globs_match_as_in_a_shell_and_follow_no_link(tmp_path: Path) -> None:
    for name in ("a/1.db", "a/2.txt", "a/.3.db", "a/b/4.db", "a/b/c/5.db", "d/6.db"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/link.db").symlink_to(tmp_path / "d/6.db")
    (tmp_path / "a/folder").symlink_to(tmp_path / "d")
    assert matches(("/a/*.db",), tmp_path) == ["/a/1.db"]
    assert matches(("/a/.*", "/a/1.db"), tmp_path) == ["/a/.3.db", "/a/1.db"]
    assert matches(("/a/**/*.db",), tmp_path) == ["/a/1.db", "/a/b/4.db", "/a/b/c/5.db"]
    assert matches(("/a/b/**",), tmp_path) == ["/a/b/4.db"]
    assert matches(("/a/*/*.db", "/[ad]/6.db", "/nothing/*"), tmp_path) == ["/a/b/4.db", "/d/6.db"]


def test_a_glob_has_an_end(tmp_path: Path) -> None:
    for number in range(MOST_FILES + 1):
        (tmp_path / str(number)).touch()
    with pytest.raises(TooMany, match="matches more than 10000 files"):
        matches(("/*",), tmp_path)


def test_the_bound_is_a_share_and_bytes() -> None:
    bound = Bound(2, 100)
    assert bound.holds(10_000, 10_300) and bound.holds(10_300, 10_000)
    assert not bound.holds(10_000, 10_400)


def test_what_is_in_memory_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"x" * 8192)
    found = recorded(Hold("a.service", files=(str(path),)))
    assert found == {str(path): [(0, 2)]}


def test_state_is_written_read_and_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "var/lib/cgroup-layering"
    folder.parent.mkdir(parents=True)
    assert read_state("a-b.service", "parity", folder) is None
    write_state("a-b.service", "parity", {"x": 1}, folder)
    assert read_state("a-b.service", "parity", folder) == {"x": 1}
    assert folder.stat().st_mode & 0o777 == 0o700
    forget(Store(tmp_path), "a-b.service")
    assert not folder.exists()
    folder.symlink_to(tmp_path)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        write_state("a.service", "parity", {}, folder)


def test_an_empty_tmpfs_is_filled_once_and_a_cut_copy_begun_anew(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep").mkdir(parents=True)
    (source / "one").write_text("1")
    (source / "deep/two").write_text("2")
    target.mkdir()
    one = Tmpfs(str(target), 1 << 20, source=str(source))
    fill(one)
    assert sorted(os.listdir(target)) == ["deep", "one"] and (target / "deep/two").read_text() == "2"
    (target / "one").unlink()
    fill(one)
    assert os.listdir(target) == ["deep"], "what the service removed stays away"
    (target / f"{STAGE}cut").mkdir()
    (target / "deep/two").write_text("service's")
    fill(one)
    assert sorted(os.listdir(target)) == ["deep", "one"]
    assert (target / "deep/two").read_text() == "service's"


@pytest.fixture
def pages_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two files of two pages each; who is charged for them is for VMs to test."""
    monkeypatch.setattr(files, "_outside", lambda _fd, _inside: False)
    monkeypatch.setattr(files, "memory", lambda _key: 1 << 30)
    for name in "ab":
        (tmp_path / name).write_bytes(b"x" * 8192)
    return [str(tmp_path / name) for name in "ab"]


def loaded(paths: list[str], max_bytes: int, known: object = None) -> tuple[list[str], list[str]]:
    """The files that were opened to be read, and the notes."""
    opened: list[str] = []
    report = Report()
    real = open_regular

    def noted(path: str) -> int:
        opened.append(path)
        return real(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "open_regular", noted)
        patch.setattr(files, "memory_devices", lambda _mounts: frozenset())
        files.load(Hold("a.service", files=tuple(paths), max_bytes=max_bytes), known, (), report)
    assert not report.problems
    return opened, report.notes


def test_files_are_loaded_up_to_the_budget(pages_of_two: list[str]) -> None:
    assert loaded(pages_of_two, 16384) == (pages_of_two, [])
    opened, notes = loaded(pages_of_two, 8192)
    assert opened == pages_of_two[:1]
    assert notes == ["1 files were not looked at any more: `max` of 8.0K or memory was used up."]


def test_never_more_than_half_of_what_is_available(pages_of_two: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "memory", lambda key: {"MemAvailable": 16384}[key])
    assert loaded(pages_of_two, 1 << 30)[0] == pages_of_two[:1]


def test_only_what_was_in_memory_at_the_last_stop_is_wanted(pages_of_two: list[str]) -> None:
    assert loaded(pages_of_two, 1 << 20, {pages_of_two[1]: [[0, 1], [700, 3]]}) == (pages_of_two[1:], [])
    assert loaded(pages_of_two, 1 << 20, {}) == ([], [])


@pytest.mark.parametrize("known", [[], "x", {"/a": 7}, {"/a": [[1]]}, {"/a": [["x", 1]]}])
def test_a_damaged_record_is_none(pages_of_two: list[str], known: object) -> None:
    assert loaded(pages_of_two, 1 << 20, known) == (pages_of_two, [])


def test_parity_compares_with_the_first_instance_since_the_layer_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state: dict[str, object] = {}
    monkeypatch.setattr(parity, "read_state", lambda _owner, _kind: state.get("known"))
    monkeypatch.setattr(parity, "write_state", lambda _owner, _kind, known: state.update(known=known))
    monkeypatch.setattr(parity, "_BOOT_ID", tmp_path / "boot_id")
    (tmp_path / "boot_id").write_text("one\n")
    hold = Hold("a.service", parity=Bound(0, 100))
    assert parity.look(hold, 7, "i1", 5000) == parity.Parity(5000, None, True, "0 % + 100B")
    assert parity.look(hold, 7, "i1", 9000).first == 5000, "it grew since"
    assert parity.look(hold, 7, "i2", 5100).kept
    later = parity.look(hold, 7, "i3", 4899)
    assert not later.kept and str(later) == "4.9K first, 4.8K later"
    assert parity.look(hold, 8, "i3", 4899) == parity.Parity(4899, None, True, "0 % + 100B"), "another layer"
    (tmp_path / "boot_id").write_text("two\n")
    assert parity.look(hold, 8, "i4", 100).later is None
