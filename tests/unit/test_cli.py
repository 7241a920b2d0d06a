# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line as a user meets it: on roots, and with words it can't take."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cgroup_layering.cli.main import VERBS
from cgroup_layering.trackings import ACCEPT
from tests.calling import OURS, PROJECT, UNITS, needs_root, refused, run
from tests.planting import ETC, LIB, RUN, plant, put, snapshot

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "root", UNITS)


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb: str) -> None:
    done = run(verb, "--help")
    assert done.returncode == 0 and done.stdout.startswith("Usage: cgroup-layering " + verb) and not done.stderr


def test_version_and_verbs() -> None:
    assert run("--version").stdout.startswith("cgroup-layering, version ")
    listed = run("--help").stdout
    assert all(re.search(rf"^  {verb} ", listed, re.MULTILINE) for verb in VERBS)


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
