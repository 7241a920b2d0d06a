# SPDX-License-Identifier: LGPL-2.1-or-later
"""What stands in the way of our files, found before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cgroup_layering import render
from cgroup_layering.model import Reason
from cgroup_layering.planner import Request, plan
from tests.layerings import layering
from tests.planting import ETC, LIB, RUN, SIMPLE, plant, read_root, snapshot

UNIT = f"{LIB}/hello.service"
SLICE = f"{ETC}/system-hello.service.slice"
DROP_IN = f"{ETC}/hello.service.d/zz-cgroup-layering.conf"
OURS = {SLICE: render.slice_text(layering()), DROP_IN: render.drop_in_text(layering())}


def obstacle(root: Path) -> Reason | None:
    return read_root(root, "hello.service").services["hello.service"].obstacle


FOUND = {
    "foreign slice": ("foreign-file", {SLICE: "[Slice]\nMemoryMax=1G\n"}),
    "empty slice": ("foreign-file", {SLICE: ""}),
    "slice of another layer": ("foreign-file", {DROP_IN: "[Service]\nSlice=x.slice\n"}),
    "link in place of the slice": ("symlink", {SLICE: "-> /etc/passwd"}),
    "masked slice": ("symlink", {SLICE: "-> /dev/null"}),
    "link in place of the drop-in": ("symlink", {DROP_IN: "-> other.conf"}),
    "link in place of the folder": ("symlink", {f"{ETC}/hello.service.d": "-> ../elsewhere", "etc/elsewhere/x": ""}),
    "file in place of the folder": ("foreign-file", {f"{ETC}/hello.service.d": ""}),
    "outranked": ("outranked", {f"{ETC}/hello.service.d/zzz.conf": "[Service]\nSlice=a.slice\n"}),
    "outranked by its reset": ("outranked", {f"{ETC}/hello.service.d/~.conf": "[Service]\nSlice=\n"}),
    "outranked for all services": ("outranked", {f"{LIB}/service.d/zzz.conf": "[Service]\nSlice=a.slice\n"}),
    "outranked from /run": ("outranked", {f"{RUN}/hello.service.d/zzz.conf": "[Service]\nSlice=a.slice\n"}),
    "our name elsewhere": (
        "foreign-file",
        {"usr/lib/systemd/system/service.d/zz-cgroup-layering.conf": "[Service]\nNice=1\n"},
    ),
    "unreadable drop-in": ("unreadable", {f"{ETC}/hello.service.d/10.conf/x": ""}),
    "too large a drop-in": ("unreadable", {f"{ETC}/hello.service.d/10.conf": "#" * (1 << 20) + "#"}),
}


@pytest.mark.parametrize(("code", "files"), FOUND.values(), ids=FOUND.keys())
def test_found(tmp_path: Path, code: str, files: dict[str, str]) -> None:
    root = plant(tmp_path, {UNIT: SIMPLE, **files})
    reason = obstacle(root)
    assert reason is not None and reason.code == code
    assert reason.sentence.startswith("hello.service cannot be layered: ") and reason.sentence.endswith(".")
    (found,) = plan(read_root(root, "hello.service"), Request()).services
    assert [r.code for r in found.reasons] == [code]


CLEAR = {
    "nothing": {},
    "ours": OURS,
    "drop-in alone": {DROP_IN: OURS[DROP_IN]},
    "ours in /run": {f"{RUN}/{name.removeprefix(ETC + '/')}": text for name, text in OURS.items()},
    "lower drop-in with a slice": {f"{ETC}/hello.service.d/50.conf": "[Service]\nSlice=system.slice\n"},
    "higher drop-in without one": {f"{ETC}/hello.service.d/zzz.conf": "[Service]\nNice=1\n"},
    "slice in another section": {f"{ETC}/hello.service.d/zzz.conf": "[Unit]\nSlice=a.slice\n"},
    "masked": {f"{LIB}/hello.service.d/zzz.conf": "[Service]\nSlice=a.slice\n", f"{ETC}/hello.service.d/zzz.conf": ""},
}


@pytest.mark.parametrize("files", CLEAR.values(), ids=CLEAR.keys())
def test_clear(tmp_path: Path, files: dict[str, str]) -> None:
    assert obstacle(plant(tmp_path, {UNIT: SIMPLE, **files})) is None


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    root = plant(tmp_path, {UNIT: SIMPLE})
    os.mkfifo(root / SLICE)
    reason = obstacle(root)
    assert reason is not None and reason.code == "foreign-file"


def test_nothing_is_written_while_looking(tmp_path: Path) -> None:
    for name, (_, files) in FOUND.items():
        root = plant(tmp_path / name, {UNIT: SIMPLE, **files})
        before = snapshot(root)
        read_root(root)
        assert snapshot(root) == before
