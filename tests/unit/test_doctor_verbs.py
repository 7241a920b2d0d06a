# SPDX-License-Identifier: LGPL-2.1-or-later
"""`doctor` and `explain` as a user meets them, and the way out of a host that does not boot: a copied root."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_layering.doctor.checks import CHECKS
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.errors import KernelFileError
from tests.calling import refused, run
from tests.planting import ETC, LIB, SIMPLE, plant, put, snapshot

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the tool writes only as root")
pytestmark = pytest.mark.timeout(120)
UNITS = {
    f"{LIB}/hello.service": SIMPLE,
    f"{LIB}/other.service": SIMPLE,
    f"{LIB}/plain.service": SIMPLE,
    f"{ETC}/alias.service": "-> /usr/lib/systemd/system/hello.service",
}
LATER = {f"{ETC}/hello.service.d/90-weight.conf": "[Service]\nCPUWeight=300\n"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with two layered services."""
    folder = plant(tmp_path / "root", UNITS)
    assert run("enable", "--root", folder, "hello", "other").returncode == 0
    return folder


@needs_root
def test_findings_as_a_table_as_json_and_as_an_exit_code(root: Path) -> None:
    done = run("doctor", "--root", root)
    assert (done.returncode, done.stdout) == (0, "")
    assert "0 errors, 0 warnings, 0 notes by 15 checks, 0 could not run. 19 checks more need" in done.stderr
    assert run("doctor", "-q", "--root", root).stderr == ""
    put(root, LATER)
    before = snapshot(root)
    done = run("doctor", "--root", root)
    assert done.returncode == 1
    assert done.stdout.split()[:3] == ["drift-limits", "warning", "hello.service"]
    assert "CPUWeight=300 (/etc/systemd/system/hello.service.d/90-weight.conf:2) has no effect" in done.stdout
    done = run("doctor", "--root", root, "--json", "short")
    document = json.loads(done.stdout)
    assert done.returncode == 1 and snapshot(root) == before
    assert (document["schema"], document["errors"], document["warnings"], document["notes"]) == (1, 0, 1, 0)
    assert (document["checks"], document["not_run"], len(document["live_only"])) == (15, [], 19)
    (finding,) = document["findings"]
    assert finding["unit"] == "hello.service" and finding["code"] == "drift-limits" and finding["level"] == "warning"


@needs_root
def test_only_the_units_that_are_named(root: Path) -> None:
    put(root, LATER)
    assert run("doctor", "--root", root, "other").returncode == 0
    for word in ("hello", "h*", "alias"):
        assert run("doctor", "--root", root, word).returncode == 1, word
    done = run("doctor", "--root", root, "plain")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "plain.service is not layered.\n")
    assert json.loads(run("doctor", "--root", root, "plain", "--json", "short").stdout)["findings"] == []
    refused(run("doctor", "--root", root, "absent"), 4, "There is no unit absent.service")


def test_an_empty_mount_point_does_not_look_sound(tmp_path: Path) -> None:
    refused(run("doctor", "--root", tmp_path), 1, "no systemd below")


def fail(evidence: Evidence) -> Iterator[tuple[str, str]]:
    raise KernelFileError(Path("/proc/x"), "permission denied")


@needs_root
def test_a_check_that_can_not_run_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [replace(check, find=fail) if check.code.name.endswith("-orphan") else check for check in CHECKS]
    monkeypatch.setattr("cgroup_layering.cli.doctor.CHECKS", checks)
    done = run("doctor", "-q", "--root", root)
    told = "1 check could not run (drift-orphan): Cannot read /proc/x: permission denied."
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"cgroup-layering: {told}\n")
    document = json.loads(run("doctor", "--root", root, "--json", "short").stdout)
    assert document["not_run"] == [{"code": "drift-orphan", "reason": told.partition(": ")[2]}]


def test_explain() -> None:
    done = run("explain")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) > 60 and lines[0].startswith("alias ")
    done = run("explain", "risk-residue", "critical")
    # Lines are as long as the terminal is wide.
    assert done.returncode == 0 and "can't be reclaimed" in " ".join(done.stdout.split())
    assert "\ncritical (deferral)\n" in done.stdout
    for title in ("What it means:", "Why it matters:", "What to do:", "Sources:"):
        assert done.stdout.count(f"\n{title}\n") == 2, title
    (code,) = json.loads(run("explain", "drift-stale", "--json", "short").stdout)["codes"]
    assert code["level"] == "warning" and code["remedy"].startswith("Run `cgroup-layering enable UNIT`")
    refused(run("explain", "risk-resdue"), 2, "Is it risk-residue")


@needs_root
@pytest.mark.parametrize("broken", ["-> /dev/null", ""])
def test_the_layers_of_a_copied_root_can_be_taken_away(root: Path, tmp_path: Path, broken: str) -> None:
    """What docs/how-to/rescue-a-host.md does: look, then remove exactly our files, the slice file gone or masked."""
    slice_file = f"{ETC}/system-hello.service.slice"
    (root / slice_file).unlink()
    put(root, {slice_file: broken} if broken else {})
    original = snapshot(root)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy, symlinks=True)
    done = run("doctor", "--root", copy)
    assert done.returncode == 1 and done.stdout.split()[:3] == ["drift-slice-file", "error", "hello.service"]
    done = run("disable", "--root", copy, "*")
    assert done.returncode == 0, done.stderr
    # A link that somebody else made stays; nothing refers to it any more.
    plain = plant(tmp_path / "plain", {**UNITS, **({slice_file: broken} if broken else {})})
    assert snapshot(copy) == snapshot(plain)
    assert snapshot(root) == original
    assert run("doctor", "--root", copy).returncode == 0
