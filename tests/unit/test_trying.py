# SPDX-License-Identifier: LGPL-2.1-or-later
"""The script that takes a try back: run by a real sh, with a systemctl that writes down its words."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cgroup_layering import trying
from cgroup_layering.model import Change, Layering, Plan, Timing
from cgroup_layering.own import drop_in_path
from cgroup_layering.trying import migration_on_trial, only_new, script, script_name, timer, tried
from tests.layerings import MIGRATION, layering, service_plan

UNITS = ("a.service", "b@1\\x2d2.service")


def plans() -> list[Layering]:
    return [layering(unit) for unit in UNITS]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host in miniature: the script's paths are below `tmp_path`, and its tools come first on PATH."""
    monkeypatch.setattr(trying, "RUN", tmp_path / "run")
    monkeypatch.setattr(trying, "FOLDER", tmp_path)
    for one in plans():
        drop_in = drop_in_path(tmp_path / "run", one.unit)
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text("ours")
        (tmp_path / "run" / one.layer).write_text("ours")
    return tmp_path


def run(here: Path, inside: str = "") -> list[str]:
    """Run the script; the words of all calls of systemctl. `inside` is the unit that runs in its layer."""
    log = here / "log"
    tools = here / "tools"
    tools.mkdir()
    group = next((f"{one.cgroup}/{one.unit}" for one in tried(map(service_plan, plans())) if one.unit == inside), "")
    systemctl = tools / "systemctl"
    systemctl.write_text(
        f'#!/bin/sh\necho "$@" >>{log}\nfor last; do :; done\n'
        f'case "$1 $last" in "show {inside.replace(chr(92), chr(92) * 2)}") printf "%s" \'{group}\' ;; esac\n'
    )
    systemctl.chmod(0o755)
    (tools / "rm").symlink_to("/bin/rm")
    text = script(MIGRATION, 120, tried(map(service_plan, plans())))
    path = here / script_name(MIGRATION)
    path.write_text(text.replace("PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"PATH={tools}"))
    done = subprocess.run(["/bin/sh", path], check=False, capture_output=True, text=True, env={"PATH": str(tools)})
    assert done.returncode == 0 and not done.stderr, done.stderr
    said = (MIGRATION in done.stdout, "not confirmed" in done.stdout)
    assert said == (not (here / "confirmed").exists(),) * 2
    return log.read_text().splitlines() if log.exists() else []


def test_it_takes_all_files_back_and_restarts_what_had_moved(here: Path) -> None:
    (here / "run" / "mine.conf").write_text("somebody else's")
    words = run(here, inside=UNITS[1])
    assert sorted(path.name for path in (here / "run").iterdir()) == ["mine.conf"]
    assert words[0] == "daemon-reload"
    assert [line for line in words if "restart" in line] == [f"try-restart -- {UNITS[1]}"]
    assert not [line for line in words if line.startswith("stop")], "no such cgroups are on this machine"
    assert (here / "rolled-back").exists() and not (here / script_name(MIGRATION)).exists()


def test_it_leaves_alone_what_was_confirmed(here: Path) -> None:
    (here / "confirmed").touch()
    assert run(here, inside=UNITS[0]) == []
    assert len(list((here / "run").iterdir())) == 4


def test_a_second_run_finds_nothing_and_does_no_harm(here: Path) -> None:
    run(here)
    (here / "tools" / "systemctl").unlink()
    for tool in (here / "tools").iterdir():
        tool.unlink()
    (here / "tools").rmdir()
    assert not [line for line in run(here) if "restart" in line]


def test_a_folder_that_is_not_ours_stays(here: Path) -> None:
    services = [service_plan(layering(UNITS[0], folder_created=False))]
    text = script(MIGRATION, 5, tried(services))
    assert "rm -d" not in text
    assert "rm -d" in script(MIGRATION, 5, tried([service_plan(layering(UNITS[0]))]))


def test_words_of_the_shell_in_names_do_nothing() -> None:
    text = script(MIGRATION, 5, tried([service_plan(layering("a\\x24\\x28reboot\\x29.service"))]))
    assert "'a\\x24\\x28reboot\\x29.service'" in text
    done = subprocess.run(["/bin/sh", "-n"], check=False, input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_shellcheck_finds_nothing_in_it() -> None:
    tool = shutil.which("shellcheck")
    assert tool, "shellcheck is missing: run `make setup`"
    text = script(MIGRATION, 120, tried(map(service_plan, plans())))
    done = subprocess.run([tool, "-"], check=False, input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout


def test_which_migration_is_on_trial() -> None:
    assert migration_on_trial([]) is migration_on_trial(["lock", "confirmed", "try-.sh", "try-$(x).sh"]) is None
    assert migration_on_trial(["lock", script_name(MIGRATION)]) == MIGRATION


def test_what_systemd_is_asked_for() -> None:
    asked = timer(MIGRATION, 90)
    assert (asked.timer, asked.service) == ("cgroup-layering-try.timer", "cgroup-layering-try.service")
    assert asked.argv == ("/bin/sh", f"/run/cgroup-layering/{script_name(MIGRATION)}")
    assert os.access(asked.argv[0], os.X_OK)


def test_only_new_layers_can_be_tried() -> None:
    new, old = service_plan(layering("a.service")), service_plan(layering("b.service"), Change.UPDATE)
    assert only_new(Plan((new, old))) == (new,)
    assert new.timing is Timing.NEXT_START
