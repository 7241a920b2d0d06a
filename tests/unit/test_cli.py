# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line as a user meets it: on roots, and with words it can't take."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cgroup_layering.__main__ import main
from cgroup_layering.cli.main import VERBS
from cgroup_layering.trackings import ACCEPT
from tests.planting import ETC, LIB, RUN, SIMPLE, plant, put, snapshot

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the tool writes only as root")
pytestmark = pytest.mark.timeout(120)
PROJECT = Path(__file__).parents[2]
UNITS = {
    f"{LIB}/hello.service": SIMPLE + "MemoryMax=64M\n",
    f"{LIB}/other.service": SIMPLE,
    f"{LIB}/t@.service": SIMPLE,
    f"{LIB}/delegated.service": SIMPLE + "Delegate=yes\n",
    f"{ETC}/masked.service": "-> /dev/null",
    f"{ETC}/alias.service": "-> /usr/lib/systemd/system/hello.service",
    f"{ETC}/multi-user.target.wants/t@1.service": "-> /usr/lib/systemd/system/t@.service",
}
OURS = {
    "etc/systemd/system/system-hello.service.slice",
    "etc/systemd/system/hello.service.d",
    "etc/systemd/system/hello.service.d/zz-cgroup-layering.conf",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "root", UNITS)


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program here: a process of its own for each would take most of the time of all unit tests."""
    argv = ["cgroup-layering", *map(str, words)]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    umask = os.umask(0o022)
    os.umask(umask)
    out, err = io.StringIO(), io.StringIO()
    code: object = None
    try:
        with (
            Path(os.devnull).open() as nothing,
            mock.patch.multiple(sys, argv=argv, stdin=nothing),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as end:
        code = end.code
    finally:
        os.umask(umask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert isinstance(code, int)
    return subprocess.CompletedProcess(argv, int(code), out.getvalue(), err.getvalue())


def run_process(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cgroup_layering", *map(str, words)],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", "PYTHONWARNINGS": "ignore"},
    )


def refused(done: subprocess.CompletedProcess[str], code: int, pattern: str) -> None:
    """Exit code, a sentence on stderr (usage may stand before it), nothing on stdout and no traceback."""
    assert done.returncode == code, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith(("cgroup-layering: ", "Error: "))]
    assert len(sentences) == 1 and re.search(pattern, sentences[0]), done.stderr
    assert sentences[0].endswith(".") or not sentences[0].startswith("cgroup-layering")
    assert all(char.isprintable() or char == "\n" for char in done.stderr)


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


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb: str) -> None:
    done = run(verb, "--help")
    assert done.returncode == 0 and done.stdout.startswith("Usage: cgroup-layering " + verb) and not done.stderr


def test_version_and_verbs() -> None:
    assert run("--version").stdout.startswith("cgroup-layering, version ")
    listed = run("--help").stdout
    assert all(re.search(rf"^  {verb} ", listed, re.MULTILINE) for verb in VERBS)


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="this machine has a systemd to talk to")
@pytest.mark.parametrize("words", [["plan"], ["status"], ["enable", "a"], ["migrate", "--yes"], ["is-enabled", "a"]])
def test_a_host_that_cannot_be_layered(words: list[str]) -> None:
    refused(run_process(*words), 1, "cgroup v2|not booted with systemd|memory controller|Root rights")


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return {row["unit"]: row for row in json.loads(done.stdout)["services"]}


def test_plan(root: Path) -> None:
    before = snapshot(root)
    done = run("plan", "--root", root)
    assert done.returncode == 0
    marks = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()}
    assert marks["hello.service"] == "+" and marks["t@1.service"] == "+"
    assert marks["masked.service"] == "-" and marks["t@.service"] == "-" and marks["alias.service"] == "-"
    found = rows(run("plan", "--root", root, "--json", "short"))
    assert found["hello.service"]["lifted"] == [
        {"key": "MemoryMax", "value": "64M", "source": f"/{LIB}/hello.service:5"}
    ]
    assert {unit: row["reasons"][0]["code"] for unit, row in found.items() if row["reasons"]} == {
        "masked.service": "masked",
        "alias.service": "alias",
        "t@.service": "template",
    }
    assert snapshot(root) == before


def test_plan_with_globs_and_words(root: Path) -> None:
    assert sorted(rows(run("plan", "--root", root, "--json=short", "h*", "t@1"))) == ["hello.service", "t@1.service"]
    for word in ("absent", "absent*"):
        refused(run("plan", "--root", root, word), 4, f"There is no unit {re.escape(word)}")


def test_a_root_without_systemd(tmp_path: Path) -> None:
    refused(run("plan", "--root", tmp_path), 1, "no systemd below")


def test_a_hostile_root_does_not_reach_the_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "a\x1b[31m\nb"
    folder.mkdir()
    refused(run("plan", "--root", folder), 1, "no systemd below")


@needs_root
def test_enable_cat_is_enabled_disable(root: Path) -> None:
    before = snapshot(root)
    assert run("is-enabled", "--root", root, "hello").stdout == "disabled\n"
    done = run("enable", "--root", root, "hello")
    assert done.returncode == 0 and "Layered 1 service." in done.stderr and not done.stdout
    assert set(snapshot(root)) - set(before) == OURS
    state = run("is-enabled", "--root", root, "hello")
    assert (state.stdout, state.returncode) == ("enabled\n", 0)
    shown = run("cat", "--root", root, "hello")
    assert shown.returncode == 0 and "\nMemoryMax=64M\n" in shown.stdout
    for name in OURS:
        if (root / name).is_file():
            assert f"# /{name}\n{(root / name).read_text()}" in shown.stdout
    # Again: nothing to do, and said so.
    during = snapshot(root)
    again = run("enable", "--root", root, "hello")
    assert again.returncode == 0 and "Nothing to change." in again.stderr and snapshot(root) == during
    done = run("disable", "--root", root, "hello")
    assert done.returncode == 0 and snapshot(root) == before
    done = run("disable", "--root", root, "hello")
    assert done.returncode == 0 and "hello.service is not layered." in done.stderr and snapshot(root) == before


@needs_root
def test_disable_excludes_from_auto_and_enable_takes_it_back(root: Path) -> None:
    disabled = root / "etc/cgroup-layering/50-disabled.toml"
    put(root, {"etc/cgroup-layering/10-auto.toml": "[layering]\nauto = true\nexclude = ['oth*']\n"})
    run("enable", "--root", root, "hello")
    layered = snapshot(root)
    dry = run("disable", "--root", root, "--dry-run", "hello")
    assert "Would exclude hello.service in /etc/cgroup-layering/50-disabled.toml." in dry.stderr
    assert snapshot(root) == layered
    done = run("disable", "--root", root, "hello")
    assert done.returncode == 0 and "Excluded from `auto`" in done.stderr and disabled.is_file()
    plain = snapshot(root)
    found = rows(run("plan", "--root", root, "--json", "short"))
    for unit, path in (("hello.service", "50-disabled.toml"), ("other.service", "10-auto.toml")):
        assert [reason["code"] for reason in found[unit]["reasons"]] == ["excluded"]
        assert path in found[unit]["reasons"][0]["sentence"]
    # A migration that names it leaves the record alone, so that a rollback leads back to it.
    assert run("migrate", "--root", root, "--yes", "hello").returncode == 0
    told = run("rollback", "--root", root)
    assert snapshot(root) == plain and "will layer" not in told.stderr
    done = run("enable", "--root", root, "hello")
    assert "No longer excluded" in done.stderr and snapshot(root) == layered
    # What is plain already is excluded too, and what the administrator excludes need not be recorded.
    run("disable", "--root", root, "hello", "other", "t@1")
    assert "hello.service" in disabled.read_text() and "other.service" not in disabled.read_text()
    assert "t@1.service" in disabled.read_text()
    disabled.write_text(disabled.read_text() + "# mine\n")
    edited = snapshot(root)
    refused(run("disable", "--root", root, "delegated"), 1, "did not write is there")
    assert snapshot(root) == edited


@needs_root
def test_rollback_says_that_auto_will_layer_again(root: Path) -> None:
    put(root, {"etc/cgroup-layering/10-auto.toml": "[layering]\nauto = true\n"})
    before = snapshot(root)
    assert run("migrate", "--root", root, "--yes", "hello").returncode == 0
    assert "`auto` will layer hello.service again" in run("rollback", "--root", root).stderr
    assert snapshot(root) == before
    put(root, {"etc/cgroup-layering/10-auto.toml": "[layering]\nauto = 1\n"})
    refused(run("disable", "--root", root, "hello"), 1, "10-auto.toml:2: ")
    assert run("rollback", "--root", root).returncode == 0, "the way back is not barred by a configuration"


@needs_root
def test_is_enabled_as_systemctl_says_it(root: Path) -> None:
    run("enable", "--root", root, "hello")
    for words, output, code in (
        (["hello"], "enabled\n", 0),
        (["other"], "disabled\n", 1),
        (["absent"], "not-found\n", 4),
        (["other", "hello"], "disabled\nenabled\n", 0),
        (["absent", "other"], "not-found\ndisabled\n", 1),
    ):
        done = run("is-enabled", "--root", root, *words)
        assert (done.stdout, done.returncode, done.stderr) == (output, code, ""), words
    assert run("is-enabled", "-q", "--root", root, "hello").stdout == ""


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


@needs_root
def test_migrate_and_rollback(root: Path) -> None:
    before = snapshot(root)
    run("enable", "--root", root, "hello")
    enabled = snapshot(root)
    done = run("migrate", "--root", root, "--yes", "--json", "short")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["written"] == ["delegated.service", "other.service", "t@1.service"] and said["failed"] == {}
    migrated = snapshot(root)
    again = run("migrate", "--root", root, "--yes")
    assert again.returncode == 0 and "Nothing to change." in again.stderr and snapshot(root) == migrated
    # Exactly the migration goes: what was enabled by hand before stays.
    assert run("rollback", "--root", root).returncode == 0
    assert snapshot(root) == enabled
    done = run("rollback", "--root", root)
    assert done.returncode == 0 and "no migration to roll back" in done.stderr
    assert run("disable", "--root", root, "*").returncode == 0
    assert snapshot(root) == before


@needs_root
def test_dry_runs_write_nothing(root: Path) -> None:
    before = snapshot(root)
    for words in (["enable", "hello"], ["migrate"], ["migrate", "--yes"]):
        done = run(words[0], "--root", root, "--dry-run", *words[1:])
        assert done.returncode == 0 and "hello.service" in done.stdout
        assert snapshot(root) == before
    run("enable", "--root", root, "hello")
    during = snapshot(root)
    done = run("disable", "--root", root, "--dry-run", "hello")
    assert done.returncode == 0 and "Would remove" in done.stderr and snapshot(root) == during


@needs_root
def test_service_tracking_tells_what_it_costs(root: Path) -> None:
    before = snapshot(root)
    done = run("enable", "--root", root, "--tracking=service", "hello")
    assert done.returncode == 1 and snapshot(root) == before
    assert "OOMPolicy=stop of hello.service would be lost" in done.stderr and ACCEPT in done.stderr
    done = run("plan", "--root", root, "--tracking=service", "hell*")
    assert "instance" in done.stdout and "note (oom-policy): " in done.stderr, "who did not name it keeps its policy"
    done = run("enable", "--root", root, "--tracking=service", ACCEPT, "hello")
    assert done.returncode == 0
    assert "note (status-memory): " in done.stderr and "note (oom-policy): " in done.stderr
    text = (root / ETC / "hello.service.d/zz-cgroup-layering.conf").read_text()
    assert "\nMemoryAccounting=no\n" in text and "\nMemoryMax=infinity\n" in text


@needs_root
def test_modes_under_a_tight_umask(root: Path) -> None:
    old = os.umask(0o077)
    try:
        run("enable", "--root", root, "hello")
    finally:
        os.umask(old)
    modes = {name: snapshot(root)[name][1] for name in OURS}
    assert modes == {name: 0o755 if name.endswith(".d") else 0o644 for name in OURS}


@needs_root
def test_a_closed_pipe_is_no_error(root: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(
        [sys.executable, "-m", "cgroup_layering", "plan", "--root", str(root)],
        cwd=PROJECT,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(writing)
        _, errors = process.communicate(timeout=60)
    assert not errors and process.returncode in (1, 128 + 13)


def test_runtime_layers_are_seen_in_a_root(root: Path) -> None:
    from cgroup_layering import render
    from tests.layerings import layering

    put(root, {f"{RUN}/system-other.service.slice": render.slice_text(layering("other.service"))})
    assert run("is-enabled", "--root", root, "other").stdout == "disabled\n", "half a layering is none"
    drop_in = render.drop_in_text(layering("other.service"))
    put(root, {f"{RUN}/other.service.d/zz-cgroup-layering.conf": drop_in})
    assert run("is-enabled", "--root", root, "other").stdout == "enabled-runtime\n"


@needs_root
def test_a_rule_in_an_image_that_names_a_service(root: Path) -> None:
    put(root, {"etc/nftables.conf": 'add rule inet t c socket cgroupv2 level 2 "system.slice/hello.service" drop\n'})
    before = snapshot(root)
    done = run("enable", "hello", "other", f"--root={root}")
    assert done.returncode == 1 and "/etc/nftables.conf, line 1: socket cgroupv2 level 2" in done.stderr
    assert snapshot(root) == before
    document = json.loads(run("plan", "hello", "other", f"--root={root}", "--json=short").stdout)
    verdicts = {service["unit"]: [reason["code"] for reason in service["reasons"]] for service in document["services"]}
    assert verdicts == {"hello.service": ["path-rule"], "other.service": []} and document["notes"] == []
    done = run("enable", "hello", "--ignore-path-rules", f"--root={root}")
    assert done.returncode == 0 and "note (path-rule)" in done.stderr
    assert (root / ETC / "system-hello.service.slice").exists()


SIGNALLED = """
import os, sys
from cgroup_layering import __main__
from cgroup_layering.cli import explain
explain.command.callback = lambda **_: os.kill(os.getpid(), int(sys.argv.pop()))
__main__.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_is_no_abort_with_nothing_changed(number: signal.Signals) -> None:
    program = SIGNALLED.replace("sys.argv.pop()", str(int(number)))
    done = subprocess.run([sys.executable, "-c", program, "explain"], check=False, capture_output=True, text=True)
    assert done.returncode == 128 + number, done.stderr
    assert "Interrupted." in done.stderr and "nothing was changed" not in done.stderr
