# SPDX-License-Identifier: LGPL-2.1-or-later
"""Unit folders are watched, and those that are not there yet are waited for."""

from __future__ import annotations

import os
from pathlib import Path

from cgroup_layering.kernel.inotify import Change, Inotify


def test_folders_are_watched_and_waited_for(tmp_path: Path) -> None:
    here, later = tmp_path / "here", tmp_path / "a" / "b"
    here.mkdir()
    watch = Inotify()
    watch.watch((here, later))
    assert watch.read() == []
    (here / "x.service").write_text("")
    (here / "x.service").unlink()
    assert {change.name for change in watch.read()} == {"x.service"}
    (tmp_path / "unrelated").mkdir()
    assert watch.read() == []
    later.parent.mkdir()
    assert watch.read() == [Change(tmp_path, "a")]
    watch.watch((here, later))
    later.mkdir()
    assert watch.read() == [Change(later.parent, "b")]
    watch.watch((here, later))
    (later / "y.slice").symlink_to("/dev/null")
    assert watch.read() == [Change(later, "y.slice")]
    here.rmdir()
    assert Change(here, "") in watch.read()
    os.close(watch.fileno())
