# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the command line refuses: bad words, units that can't be layered, files in the way; nothing is written then."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.calling import UNITS, needs_root, refused, run, run_process
from tests.planting import ETC, plant, put, snapshot

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "root", UNITS)


USAGE = {
    "no such verb": (["frobnicate"], "No such command"),
    "no such option": (["plan", "--frobnicate"], "No such option"),
    "a socket": (["enable", "a.socket"], "socket unit, and only services"),
    "a path": (["enable", "../etc/passwd"], "not a valid service name"),
    "a blank": (["cat", "a b"], "not a valid service name"),
    "an empty word": (["is-enabled", ""], "not a valid service name"),
    "control characters": (["cat", "a\x1b[31m\n"], "not a valid service name"),
    "bytes": (["cat", os.fsdecode(b"a\xff")], "not a valid service name"),
    "too long": (["enable", "x" * 300], "308 bytes"),
    "no unit": (["enable"], "Missing argument"),
    "tracking": (["plan", "--tracking", "both"], "is not one of"),
    "json": (["plan", "--json", "yaml"], "is not one of"),
    "timeout": (["enable", "a", "--timeout", "soon"], "time span"),
    "no timeout": (["enable", "a", "--timeout", "0"], "more than 0"),
    "long timeout": (["enable", "a", "--timeout", "2d"], "at most one day"),
    "root that is no folder": (["plan", "--root", "/etc/passwd"], "is a file"),
    "root that is not there": (["plan", "--root", "/nonexistent"], "does not exist"),
    "no reload": (["disable", "a", "--no-reload"], "cannot do without a reload"),
    "no rollback without it": (["rollback", "--no-reload"], "cannot do without a reload"),
}


@pytest.mark.parametrize(("words", "pattern"), USAGE.values(), ids=USAGE.keys())
def test_usage(words: list[str], pattern: str) -> None:
    refused(run(*words), 2, pattern)


@pytest.mark.parametrize("words", [["frobnicate"], ["cat", os.fsdecode(b"a\xff")], ["plan", "--root", "/sys"]])
def test_a_process_of_its_own(words: list[str]) -> None:
    done, here = run_process(*words), run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (here.returncode, here.stdout, here.stderr)


def test_runtime_and_root(root: Path) -> None:
    for verb in ("plan", "enable"):
        refused(run(verb, "--runtime", "--root", root, "hello"), 2, "makes no sense with --root")


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="this machine has a systemd to talk to")
@pytest.mark.parametrize("words", [["plan"], ["status"], ["enable", "a"], ["migrate", "--yes"], ["is-enabled", "a"]])
def test_a_host_that_cannot_be_layered(words: list[str]) -> None:
    refused(run_process(*words), 1, "cgroup v2|not booted with systemd|memory controller|Root rights")


def test_a_root_without_systemd(tmp_path: Path) -> None:
    refused(run("plan", "--root", tmp_path), 1, "no systemd below")


def test_a_hostile_root_does_not_reach_the_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "a\x1b[31m\nb"
    folder.mkdir()
    refused(run("plan", "--root", folder), 1, "no systemd below")


REFUSED = {
    "absent": (["enable", "absent"], 4, "There is no unit absent.service"),
    "absent among others": (["enable", "hello", "absent"], 4, "There is no unit absent.service"),
    "masked": (["enable", "masked"], 1, "masked.service is masked"),
    "masked among others": (["enable", "hello", "masked"], 1, "masked.service is masked"),
    "alias": (["enable", "alias"], 1, "alias.service is an alias of hello.service; name that one"),
    "template": (["enable", "t@"], 1, "is a template"),
    "tracking": (["enable", "delegated", "--tracking=service"], 1, "can only have `instance` tracking"),
    "migrate without yes": (["migrate"], 2, "standard input is not a terminal"),
    "migrate what is refused": (["migrate", "--yes", "masked"], 1, "is masked"),
    "disable absent": (["disable", "absent"], 4, "There is no unit absent.service"),
    "cat absent": (["cat", "absent"], 4, "There is no unit absent.service"),
    "cat plain": (["cat", "hello"], 1, "is not layered"),
}


@needs_root
@pytest.mark.parametrize(("words", "code", "pattern"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_and_nothing_written(root: Path, words: list[str], code: int, pattern: str) -> None:
    before = snapshot(root)
    refused(run(words[0], "--root", root, *words[1:]), code, pattern)
    assert snapshot(root) == before


IN_THE_WAY = {
    "foreign slice": ({f"{ETC}/system-hello.service.slice": "[Slice]\n"}, "was not written by cgroup-layering"),
    "link": ({f"{ETC}/system-hello.service.slice": "-> /etc/passwd"}, "a symbolic link is in the way"),
    "linked folder": ({f"{ETC}/hello.service.d": "-> /tmp"}, "a symbolic link is in the way"),
    "drop-in that beats ours": (
        {f"{ETC}/hello.service.d/zzz.conf": "[Service]\nSlice=a.slice\n"},
        "sorts behind zz-cgroup-layering.conf",
    ),
    "folder": ({f"{ETC}/system-hello.service.slice/x": ""}, "not a regular file|is a directory"),
}


@needs_root
@pytest.mark.parametrize(("files", "pattern"), IN_THE_WAY.values(), ids=IN_THE_WAY.keys())
def test_in_the_way(root: Path, files: dict[str, str], pattern: str) -> None:
    put(root, files)
    before = snapshot(root)
    refused(run("enable", "--root", root, "hello"), 1, pattern)
    assert snapshot(root) == before
    # It is that service's trouble alone.
    assert run("enable", "--root", root, "other").returncode == 0


@needs_root
def test_the_whole_folder_is_a_link(root: Path) -> None:
    (root / ETC).rename(root / "elsewhere")
    (root / ETC).symlink_to(root / "elsewhere")
    before = snapshot(root)
    refused(run("enable", "--root", root, "hello"), 1, "a symbolic link is in the way")
    assert snapshot(root) == before


@pytest.fixture
def read_only(root: Path) -> Iterator[Path]:
    command = ["mount", "--bind", str(root), str(root)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(root)], check=True)
    yield root
    subprocess.run(["umount", str(root)], check=True)


@needs_root
def test_a_read_only_root(read_only: Path) -> None:
    refused(run("enable", "--root", read_only, "hello"), 1, "read-only file system")
    assert run("plan", "--root", read_only, "hello").returncode == 0
