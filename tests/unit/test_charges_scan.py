# SPDX-License-Identifier: LGPL-2.1-or-later
"""The scan of a host, against a count of single page frames that anybody can follow."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_layering.charges.host import sum_subtrees
from cgroup_layering.charges.pages import BLOCK, PageOwners
from cgroup_layering.charges.scan import CHUNK, PageCounts, scan_host
from cgroup_layering.errors import KernelFileError
from cgroup_layering.kernel.kpageflags import PageFlag as F

FILE = F.LRU | F.UPTODATE | F.REFERENCED
SHMEM = F.LRU | F.SWAPBACKED | F.UPTODATE
ANON = F.LRU | F.SWAPBACKED | F.ANON | F.MMAP
KERNEL = F(0)
BATCHED = F.UPTODATE  # page cache that waits for its place on a list
KINDS = {FILE: "file", BATCHED: "file", SHMEM: "shmem", ANON: "anon", KERNEL: "other"}

# (cgroup, kind, pages, how a kernel tells about tails: as its head, silent, or no compound page at all)
Stretch = tuple[int, F, int, str]


def frames_of(stretches: list[Stretch]) -> tuple[list[int], list[int], Counter[tuple[int, str]]]:
    """Words of both files, and the right answer."""
    cgroups: list[int] = []
    flags: list[int] = []
    answer: Counter[tuple[int, str]] = Counter()
    for owner, kind, pages, told in stretches:
        if told == "single" or pages == 1:
            cgroups += [owner] * pages
            flags += [kind.value] * pages
        else:
            head, tail = kind | F.COMPOUND_HEAD, F.COMPOUND_TAIL
            cgroups += [owner] + [owner if told == "as head" else 0] * (pages - 1)
            flags += [head.value] + [(kind | tail if told == "as head" else tail).value] * (pages - 1)
        if owner:
            answer[owner, KINDS[kind]] += pages
    return cgroups, flags, answer


def write(folder: Path, cgroups: list[int], flags: list[int]) -> None:
    for name, words in (("kpagecgroup", cgroups), ("kpageflags", flags), ("kpagecount", [0] * len(flags))):
        (folder / name).write_bytes(np.array(words, dtype=np.uint64).tobytes())


def counted(folder: Path) -> Counter[tuple[int, str]]:
    scan = scan_host(folder)
    found: Counter[tuple[int, str]] = Counter()
    for owner, counts in scan.cgroups.items():
        for kind in ("file", "shmem", "anon", "other"):
            if getattr(counts, kind):
                found[owner, kind] = getattr(counts, kind)
    assert scan.charged == sum(found.values())
    return found


# At most 25 of at most 40: no compound page reaches over the edge of a block, nor does one in the kernel.
stretch = st.tuples(
    st.sampled_from([0, 1, 60, 61, 2**40 + 7]),
    st.sampled_from(list(KINDS)),
    st.integers(1, 40),
    st.sampled_from(["single", "as head", "silent"]),
)


@settings(deadline=None)
@given(st.lists(stretch, min_size=1, max_size=25))
def test_scan_is_as_counting_one_by_one(tmp_path_factory: pytest.TempPathFactory, stretches: list[Stretch]) -> None:
    folder = tmp_path_factory.mktemp("proc")
    cgroups, flags, answer = frames_of(stretches)
    write(folder, cgroups, flags)
    assert counted(folder) == answer


@settings(deadline=None)
@given(st.lists(stretch, min_size=1, max_size=25))
def test_page_owners_are_as_the_heads(tmp_path_factory: pytest.TempPathFactory, stretches: list[Stretch]) -> None:
    folder = tmp_path_factory.mktemp("proc")
    cgroups, flags, answer = frames_of(stretches)
    write(folder, cgroups, flags)
    with PageOwners(folder) as pages:
        owners = pages.owners(np.arange(len(cgroups), dtype=np.uint64))
    right: Counter[int] = Counter()
    for (owner, _), charged in answer.items():
        right[owner] += charged
    assert Counter(owner for owner in owners.tolist() if owner) == right


def test_scan_goes_over_many_chunks_with_holes(tmp_path: Path) -> None:
    cgroups = np.zeros(2 * CHUNK + BLOCK + 37, dtype=np.uint64)
    flags = np.full(len(cgroups), (F.LRU | F.UPTODATE).value, dtype=np.uint64)
    for first in (0, BLOCK - 1, 3 * BLOCK, CHUNK - 1, CHUNK, len(cgroups) - 1):
        cgroups[first] = 60
    cgroups[5 * BLOCK : 6 * BLOCK] = 61
    (tmp_path / "kpagecgroup").write_bytes(cgroups.tobytes())
    (tmp_path / "kpageflags").write_bytes(flags.tobytes())
    scan = scan_host(tmp_path)
    assert scan.frames == len(cgroups)
    assert scan.cgroups == {60: PageCounts(file=6), 61: PageCounts(file=BLOCK)}


def test_a_tail_across_chunks_is_never_counted_for_a_stranger(tmp_path: Path) -> None:
    """A gigantic page's tails whose head is blocks away belong to nobody we know, not to a neighbour."""
    cgroups = [60] + [0] * (2 * BLOCK - 1) + [61]
    write(tmp_path, cgroups, [FILE.value] * BLOCK + [1 << 16] * BLOCK + [0])
    with PageOwners(tmp_path) as pages:
        assert pages.owners(np.array([BLOCK, 2 * BLOCK - 1], dtype=np.uint64)).tolist() == [0, 0]
    assert scan_host(tmp_path).cgroups == {60: PageCounts(file=1), 61: PageCounts(other=1)}


def test_a_kernel_without_the_files(tmp_path: Path) -> None:
    with pytest.raises(KernelFileError, match="kpagecgroup: the kernel has no such file"):
        scan_host(tmp_path)


def test_sums_go_up_to_every_ancestor() -> None:
    own = {
        "/": PageCounts(file=1),
        "/system.slice": PageCounts(shmem=2),
        "/system.slice/a.service": PageCounts(anon=4),
        "/system.slice/a.service/w": PageCounts(other=8),
        "/init.scope": PageCounts(anon=16),
    }
    sums = sum_subtrees(own)
    assert sums["/"] == PageCounts(file=1, shmem=2, anon=20, other=8)
    assert sums["/system.slice"] == PageCounts(shmem=2, anon=4, other=8)
    assert sums["/system.slice/a.service"] == PageCounts(anon=4, other=8)
    assert own["/"] == PageCounts(file=1)
