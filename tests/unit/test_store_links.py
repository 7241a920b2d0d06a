# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the only writer of files meets on its way: links at any level, fifos, sockets, folders and files in the way."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from cgroup_layering import render
from cgroup_layering.own import drop_in_path
from cgroup_layering.rooted import StoreError, SymlinkInTheWay
from cgroup_layering.store import Store
from cgroup_layering.unitpaths import ETC, below
from tests.layerings import layering
from tests.planting import plant, snapshot

OLD, NEW = (render.slice_text(layering(migration=name)) for name in ("old", "new"))
SLICE = ETC / "system-hello.service.slice"
LEVELS = ("etc", "etc/systemd", "etc/systemd/system", "etc/systemd/system/hello.service.d")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "root")


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("target", ["outside", "inside"])
def test_a_link_at_any_level_is_not_followed(root: Path, store: Store, level: str, target: str) -> None:
    drop_in = drop_in_path(ETC, "hello.service")
    below(root, drop_in.parent).mkdir()
    below(root, drop_in).write_text(render.drop_in_text(layering()))
    elsewhere = root.parent / "elsewhere" if target == "outside" else root / "elsewhere"
    (root / level).rename(elsewhere)
    (root / level).symlink_to(elsewhere)
    before, before_elsewhere = snapshot(root), snapshot(elsewhere)
    for attempt in (
        lambda: store.read(drop_in),
        lambda: store.write(drop_in, NEW),
        lambda: store.remove(drop_in),
        lambda: store.names(drop_in.parent),
        lambda: store.has_folder(drop_in.parent),
        lambda: store.make_folder(drop_in.parent / "x"),
        lambda: store.remove_folder(drop_in.parent / "x"),
        lambda: store.check_writable(drop_in.parent),
        lambda: store.sweep(drop_in.parent),
    ):
        with pytest.raises(SymlinkInTheWay, match=f"/{level}: a symbolic link is in the way"):
            attempt()
    assert (snapshot(root), snapshot(elsewhere)) == (before, before_elsewhere)


@pytest.mark.parametrize("target", ["/etc/passwd", "nowhere", "../../../../../../outside", "/dev/null"])
def test_a_link_in_place_of_the_file(root: Path, store: Store, target: str) -> None:
    below(root, SLICE).symlink_to(target)
    for attempt in (lambda: store.read(SLICE), lambda: store.write(SLICE, NEW), lambda: store.remove(SLICE)):
        with pytest.raises(SymlinkInTheWay, match=SLICE.name):
            attempt()
    assert str(below(root, SLICE).readlink()) == target
    assert not (root.parent / "outside").exists()


def test_dots_do_not_leave_the_root(root: Path, store: Store) -> None:
    (root.parent / "secret").mkdir()
    (root.parent / "secret/x").write_text(OLD)
    before = snapshot(root.parent)
    outside = Path("/../secret/x")
    for attempt in (
        lambda: store.read(outside),
        lambda: store.write(outside, NEW),
        lambda: store.remove(outside),
        lambda: store.make_folder(outside.parent / "y"),
    ):
        with pytest.raises(StoreError, match="leaves its folder"):
            attempt()
    assert snapshot(root.parent) == before


def test_a_fifo_in_the_way_does_not_hang(root: Path, store: Store) -> None:
    os.mkfifo(below(root, SLICE))
    for attempt in (lambda: store.read(SLICE), lambda: store.write(SLICE, NEW), lambda: store.remove(SLICE)):
        with pytest.raises(StoreError, match="it is not a regular file"):
            attempt()
    assert stat.S_ISFIFO(below(root, SLICE).lstat().st_mode)


def test_a_socket_in_the_way(root: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(below(root, ETC))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(SLICE.name)
        with pytest.raises(StoreError, match=f"Cannot read {SLICE}"):
            store.write(SLICE, NEW)


def test_a_folder_in_the_way(root: Path, store: Store) -> None:
    below(root, SLICE).mkdir()
    for attempt in (lambda: store.read(SLICE), lambda: store.write(SLICE, NEW), lambda: store.remove(SLICE)):
        with pytest.raises(StoreError, match=str(SLICE)):
            attempt()
    assert below(root, SLICE).is_dir()


def test_a_file_in_place_of_a_folder(root: Path, store: Store) -> None:
    folder = ETC / "hello.service.d"
    below(root, folder).write_text("")
    for attempt in (
        lambda: store.make_folder(folder),
        lambda: store.write(folder / "x.conf", NEW),
        lambda: store.names(folder),
        lambda: store.remove_folder(folder),
    ):
        with pytest.raises(StoreError, match="not a directory"):
            attempt()


def test_a_missing_folder(store: Store, root: Path) -> None:
    assert store.read(ETC / "absent/x") is None and store.names(ETC / "absent") == []
    assert not store.has_folder(ETC / "absent") and not store.remove_folder(ETC / "absent")
    assert not store.remove(ETC / "absent/x")
    with pytest.raises(StoreError, match="its folder does not exist"):
        store.write(ETC / "absent/x", NEW)
    with pytest.raises(StoreError, match="does not exist"):
        store.make_folder(ETC / "absent/x")
    with pytest.raises(StoreError, match="the folder does not exist"):
        store.check_writable(ETC / "absent")
