# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cgroups that go while a service is looked at: their pages are told when the kernel says whose they are now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cgroup_layering.charges import usage
from cgroup_layering.charges.model import FileCharges
from cgroup_layering.charges.service_files import ServiceFile, ServiceFiles, Use
from cgroup_layering.kernel.cgroupfs import CgroupEntry, CgroupFS

LAYER = "/system.slice/system-hello.service.slice"
INODES = {"/": 1, "/system.slice": 2, LAYER: 3, f"{LAYER}/hello.service": 4}
REMOVED = 9
FILE = ServiceFile(Path("/srv/data"), 1, 2, 40960, frozenset({Use.OPEN}), False, Path("/srv/data"))


class Kernel:
    """What the kernel says of the owner of ten pages, look by look; the last answer stays."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.slept: list[float] = []

    def charges(self, files: Iterable[object], on_error: object) -> Iterator[FileCharges]:
        if not list(files):
            return
        owner = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        yield FileCharges("/srv/data", 1, 2, 40960, 10, {owner: 10}, None, 0)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_details: object) -> None:
        pass


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Any:
    def start(kernel: Kernel, targets: int = 1) -> list[usage.Usage]:
        entries = [CgroupEntry(path, inode) for path, inode in INODES.items()]
        fs = SimpleNamespace(walk=lambda: entries, procs_recursive=lambda _home: [7], exists=lambda _home: True)
        monkeypatch.setattr(usage, "Attributor", lambda **_words: kernel)
        monkeypatch.setattr(usage, "mappers", lambda _proc: {})
        monkeypatch.setattr(usage, "host_tmpfs", lambda _proc: ())
        monkeypatch.setattr(usage, "regular_files", lambda _folders, _misses: ())
        monkeypatch.setattr(usage, "private_tmpfs", lambda _pids, _proc: ())
        monkeypatch.setattr(usage, "service_files", lambda *_words: ServiceFiles((FILE,), 0, ()))
        clock = SimpleNamespace(sleep=kernel.slept.append, monotonic=lambda: sum(kernel.slept))
        monkeypatch.setattr(usage, "time", clock)
        return usage.usages([usage.Target("hello.service", LAYER)] * targets, cast(CgroupFS, fs))

    return start


def test_pages_of_a_cgroup_that_is_going_are_the_layers_a_moment_later(look: Any) -> None:
    kernel = Kernel(REMOVED, REMOVED, INODES[LAYER])
    (found,) = look(kernel)
    assert (found.inside_pages, found.strays(), found.unsettled_pages) == (10, [], 0)
    assert len(kernel.slept) == 2


@pytest.mark.parametrize("owner", [0, INODES["/system.slice"]])
def test_what_is_settled_is_looked_at_once(look: Any, owner: int) -> None:
    """A page that no cgroup pays for is no reason to wait either."""
    kernel = Kernel(owner)
    (found,) = look(kernel)
    assert sum(stray.pages for stray in found.strays()) == 10
    assert kernel.slept == []


def test_a_cgroup_that_stays_unknown_is_waited_for_once(look: Any) -> None:
    """Such as one outside of the cgroup namespace."""
    kernel = Kernel(REMOVED)
    first, second = look(kernel, 2)
    assert first.unsettled_pages == second.unsettled_pages == 10
    assert sum(kernel.slept) <= 5
