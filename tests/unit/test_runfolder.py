# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lock between two runs, and a folder that nobody else may write to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cgroup_layering.runfolder import LOCK, REAPING, Locked, RunFolder, RunFolderError

HOLDER = """
import sys
from pathlib import Path
from cgroup_layering.runfolder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
folder.lock()
print("held", flush=True)
sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), "migrate"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_the_second_run_waits_and_is_told_for_whom(tmp_path: Path) -> None:
    path = tmp_path / "run"
    heard: list[str] = []
    with holder(path) as first:
        with pytest.raises(Locked, match=f"migrate \\(process {first.pid}\\)"):
            RunFolder(path).lock(0.3, heard.append)
        assert len(heard) == 1 and f"process {first.pid}" in heard[0]
        first.kill()
        first.wait()
        RunFolder(path).lock(5)


def test_a_lock_that_was_given_back_is_free_and_says_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.lock()
    folder.unlock()
    assert folder.read(LOCK) == ""
    other = RunFolder(tmp_path / "run")
    other.lock(0)
    folder.unlock()


def test_the_turn_of_reap_is_another_lock(tmp_path: Path) -> None:
    one, two = RunFolder(tmp_path / "run", lock=REAPING), RunFolder(tmp_path / "run")
    one.lock()
    two.lock(0)
    with pytest.raises(Locked, match="cgroup-layering"):
        RunFolder(tmp_path / "run", lock=REAPING).lock(0)


def test_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.write("a", "text\n", 0o700)
    assert folder.read("a") == "text" and folder.read("b") == ""
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "run" / "a").stat().st_mode & 0o777 == 0o700
    (tmp_path / "run" / "link").symlink_to("a")
    assert folder.read("link") == "", "no link is followed"
    folder.write("link", "mine")
    assert folder.read("a") == "text" and folder.names() == ["a", "link"]
    folder.remove("a", "link", "b")
    assert folder.names() == []


def test_folders_that_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    (tmp_path / "file").touch()
    for name, word in (("open", "others than root"), ("link", "link|directory"), ("file", "irectory")):
        with pytest.raises(RunFolderError, match=word):
            RunFolder(tmp_path / name)
    with pytest.raises(RunFolderError, match="such file"):
        RunFolder(tmp_path / "no" / "such")
    assert os.listdir(tmp_path / "open") == []
