# SPDX-License-Identifier: LGPL-2.1-or-later
"""The only writer of files: what it refuses, and what a crash leaves behind."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgroup_layering import render
from cgroup_layering.own import drop_in_path
from cgroup_layering.rooted import ForeignFile, StoreError
from cgroup_layering.store import TEMPORARY, Store
from cgroup_layering.unitpaths import ETC, ETC_CONTROL, RUN, below, is_control
from tests.faults import disk_error, power_cut
from tests.layerings import layering
from tests.planting import plant, snapshot

OLD, NEW = (render.slice_text(layering(migration=name)) for name in ("old", "new"))
SLICE = ETC / "system-hello.service.slice"
UNIT = "hello.service"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path / "root")


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


def test_write_and_read(store: Store, root: Path) -> None:
    assert store.read(SLICE) is None
    assert store.write(SLICE, OLD) is True
    assert store.read(SLICE) == OLD and below(root, SLICE).read_text() == OLD
    assert store.write(SLICE, NEW) is True
    assert store.read(SLICE) == NEW
    assert store.names(ETC) == [SLICE.name]


def test_equal_content_is_left_alone(store: Store, root: Path) -> None:
    store.write(SLICE, OLD)
    path = below(root, SLICE)
    os.utime(path, ns=(1, 1))
    before = path.stat()
    assert store.write(SLICE, OLD) is False
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (before.st_ino, 1, before.st_ctime_ns)


@pytest.fixture(params=[0o077, 0o777, 0o000], ids="umask {0:03o}".format)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    old = os.umask(request.param)
    yield
    os.umask(old)


def test_modes_do_not_depend_on_the_umask(umask: None, store: Store, root: Path) -> None:
    folder = ETC / "hello.service.d"
    store.write(SLICE, OLD)
    store.make_folder(folder)
    assert stat.S_IMODE(below(root, SLICE).stat().st_mode) == 0o644
    assert stat.S_IMODE(below(root, folder).stat().st_mode) == 0o755


def test_a_wider_mode_of_an_old_file_does_not_stay(store: Store, root: Path) -> None:
    store.write(SLICE, OLD)
    below(root, SLICE).chmod(0o666)
    store.write(SLICE, NEW)
    assert stat.S_IMODE(below(root, SLICE).stat().st_mode) == 0o644


def test_text_that_is_no_utf8_comes_back(store: Store, root: Path) -> None:
    path = below(root, ETC / "x")
    path.write_bytes(b"a\xff\r\n\0b")
    assert store.read(ETC / "x") == "a\udcff\r\n\0b"
    text = OLD + "# \udcff\n"
    store.write(SLICE, text)
    assert below(root, SLICE).read_bytes() == text.encode(errors="surrogateescape")


def test_foreign_files_are_neither_overwritten_nor_removed(store: Store, root: Path) -> None:
    below(root, SLICE).write_text("[Slice]\nMemoryMax=1G\n")
    before = snapshot(root)
    said = f"Cannot write {SLICE}: a file that cgroup-layering did not write"
    with pytest.raises(ForeignFile, match=said):
        store.write(SLICE, NEW)
    with pytest.raises(ForeignFile, match=said):
        store.remove(SLICE)
    assert snapshot(root) == before


def test_folders(store: Store, root: Path) -> None:
    folder = ETC / "hello.service.d"
    assert store.make_folder(folder) is True and store.make_folder(folder) is False
    assert store.has_folder(folder)
    below(root, folder / "other.conf").write_text("")
    assert store.remove_folder(folder) is False and store.has_folder(folder)
    below(root, folder / "other.conf").unlink()
    assert store.remove_folder(folder) is True and not store.has_folder(folder)


def test_remove(store: Store) -> None:
    store.write(SLICE, OLD)
    assert store.remove(SLICE) is True and store.read(SLICE) is None
    assert store.remove(SLICE) is False


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A root on a file system of 64 KiB of its own, or skip where nothing can be mounted."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield plant(folder)
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_file_system(mounted: Path) -> None:
    store = Store(mounted)
    store.write(SLICE, OLD)
    with (mounted / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
        while True:
            filler.write(b"x" * 4096)
    before = snapshot(mounted)
    for attempt in (lambda: store.write(SLICE, NEW), lambda: store.check_writable(ETC)):
        with pytest.raises(StoreError, match="no space left on device"):
            attempt()
    assert snapshot(mounted) == before


def test_a_read_only_file_system(mounted: Path) -> None:
    store = Store(mounted)
    store.write(SLICE, OLD)
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    for attempt in (
        lambda: store.write(SLICE, NEW),
        lambda: store.remove(SLICE),
        lambda: store.make_folder(ETC / "x.d"),
        lambda: store.check_writable(ETC),
    ):
        with pytest.raises(StoreError, match="read-only file system"):
            attempt()
    assert store.write(SLICE, OLD) is False
    assert store.read(SLICE) == OLD


def test_a_write_that_is_cut_short(store: Store, root: Path) -> None:
    store.write(SLICE, OLD)
    before = snapshot(root)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        for attempt in (lambda: store.write(SLICE, NEW), lambda: store.check_writable(ETC)):
            with pytest.raises(StoreError, match="file too large"):
                attempt()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert snapshot(root) == before


@pytest.mark.parametrize("old", [None, OLD], ids=["new file", "changed file"])
def test_a_power_cut_leaves_old_or_new(root: Path, store: Store, old: str | None) -> None:
    number, seen = 0, set()
    while True:
        number += 1
        shutil.rmtree(below(root, ETC))
        below(root, ETC).mkdir()
        if old is not None:
            store.write(SLICE, old)
        with power_cut(number) as faults:
            store.write(SLICE, NEW)
        text = store.read(SLICE)
        assert text in (old, NEW)
        seen.add(text)
        # What else is there is a temporary file that says so, and a sweep takes it away.
        store.sweep(ETC)
        assert store.names(ETC) == ([] if text is None else [SLICE.name])
        if not faults.struck:
            break
    assert seen == {old, NEW} and number > 4


def test_data_is_on_disk_before_its_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    for name in ("fsync", "rename", "fchmod"):

        def noted(*args: object, name: str = name, call: object = getattr(os, name), **kwargs: object) -> None:
            order.append(name)
            call(*args, **kwargs)  # type: ignore[operator]

        monkeypatch.setattr(os, name, noted)
    store.write(SLICE, NEW)
    assert order == ["fchmod", "fsync", "rename", "fsync"]
    order.clear()
    folder = ETC / "a.service.d"
    with store.folders_at_the_end():
        store.write(SLICE, OLD)
        store.make_folder(folder)
        store.write(folder / "x.conf", NEW)
        assert order == ["fchmod", "fsync", "rename", "fchmod", "fchmod", "fsync", "rename"]
        order.clear()
    assert order == ["fsync", "fsync"], "each of the two folders, once"
    store.remove(folder / "x.conf")
    assert order == ["fsync"] * 3, "and then as ever"


@pytest.mark.parametrize("number", range(1, 6))
def test_an_error_of_the_disk_leaves_no_temporary_file(store: Store, number: int) -> None:
    with disk_error(number) as faults, pytest.raises(StoreError, match="no space left on device"):
        store.write(SLICE, NEW)
    assert faults.struck
    assert [name for name in store.names(ETC) if name.startswith(TEMPORARY)] == []


def test_sweep_takes_only_temporary_files(store: Store, root: Path) -> None:
    for name in (f"{TEMPORARY}0123", "other", f"x{TEMPORARY}"):
        below(root, ETC / name).write_text("")
    store.sweep(ETC)
    assert store.names(ETC) == ["other", f"x{TEMPORARY}"]


def test_check_writable_leaves_nothing(store: Store, root: Path) -> None:
    before = snapshot(root)
    store.check_writable(ETC)
    assert snapshot(root) == before


def put_layering(store: Store, folder: Path, unit: str = UNIT) -> None:
    said = layering(unit)
    store.write(folder / said.layer, render.slice_text(said))
    store.make_folder(folder / f"{unit}.d")
    store.write(drop_in_path(folder, unit), render.drop_in_text(said))


def test_own(store: Store, root: Path) -> None:
    put_layering(store, ETC)
    put_layering(store, RUN, "other.service")
    store.write(ETC / "system-half.service.slice", render.slice_text(layering("half.service")))
    foreign = below(root, ETC / "system-foreign.service.slice")
    foreign.write_text("[Slice]\n")
    copied = below(root, ETC / "system-copied.service.slice")
    copied.write_text(OLD)
    below(root, ETC / "system-linked.service.slice").symlink_to(SLICE.name)
    own = store.own()
    assert sorted(own) == ["half.service", UNIT, "other.service"]
    assert own[UNIT].complete and not own["half.service"].complete
    assert own["other.service"].slice_file.parent == RUN
    # A drop-in of somebody else under our name is not ours.
    below(root, drop_in_path(ETC, UNIT)).write_text("[Service]\n")
    assert not store.own()[UNIT].complete


def test_etc_wins_over_run(store: Store) -> None:
    put_layering(store, RUN)
    put_layering(store, ETC)
    assert store.own()[UNIT].slice_file.parent == ETC


def test_stray_drop_ins(store: Store, root: Path) -> None:
    for folder in (ETC, RUN):
        put_layering(store, folder)
        store.remove(folder / SLICE.name)
    foreign = drop_in_path(ETC, "foreign.service")
    below(root, foreign.parent).mkdir()
    below(root, foreign).write_text("[Service]\n")
    below(root, ETC / "linked.service.d").symlink_to("hello.service.d")
    below(root, ETC / "file.service.d").write_text("")
    assert store.stray_drop_ins() == [drop_in_path(ETC, UNIT), drop_in_path(RUN, UNIT)]


def test_a_layer_that_the_service_has_left_does_not_hide_the_one_it_has(store: Store) -> None:
    old, new = layering(UNIT), layering(UNIT, "web.slice")
    store.make_folder(drop_in_path(ETC, UNIT).parent)
    for said in (old, new):
        store.write(ETC / said.layer, render.slice_text(said))
        store.write(drop_in_path(ETC, UNIT), render.drop_in_text(said))
        assert store.own()[UNIT].layer == said.layer and store.own()[UNIT].complete
    assert {files.layer: files.complete for files in store.all_own()} == {old.layer: False, new.layer: True}


def test_what_systemd_wrote_may_be_taken_over_where_it_writes(store: Store, root: Path) -> None:
    text = '# This is a drop-in unit file extension, created via "systemctl set-property"\n[Service]\nMemoryMax=1\n'
    for folder in (ETC_CONTROL, ETC):
        for path in (folder, folder / "a.service.d"):
            store.make_folder(path)
        path = folder / "a.service.d" / "50-MemoryMax.conf"
        below(root, path).write_text(text)
        with pytest.raises(ForeignFile):
            store.remove(path)
    with pytest.raises(ForeignFile):
        store.remove(path, is_control)
    path = ETC_CONTROL / "a.service.d" / "50-MemoryMax.conf"
    assert store.write(path, text.replace("=1", "=2"), is_control) and store.remove(path, is_control)
