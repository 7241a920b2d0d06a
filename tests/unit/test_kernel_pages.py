# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files with a word per page frame, and the page map, on files of our own making."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_layering.errors import KernelFileError, NotPrivileged
from cgroup_layering.kernel.kpagecgroup import KPageCgroup
from cgroup_layering.kernel.kpageflags import KPageFlags, PageFlag
from cgroup_layering.kernel.pagemap import PRESENT, PageMap
from cgroup_layering.kernel.pfnfile import GATHER_GAP, PAGE_SIZE


def write_words(path: Path, words: list[int]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(np.array(words, dtype=np.uint64).tobytes())


def test_chunks_cover_the_file(tmp_path: Path) -> None:
    write_words(tmp_path / "kpagecgroup", list(range(10)))
    with KPageCgroup(tmp_path) as file:
        assert [(start, words.tolist()) for start, words in file.chunks(4)] == [
            (0, [0, 1, 2, 3]),
            (4, [4, 5, 6, 7]),
            (8, [8, 9]),
        ]


def test_read_is_short_at_the_end(tmp_path: Path) -> None:
    write_words(tmp_path / "kpagecgroup", list(range(10)))
    with KPageCgroup(tmp_path) as file:
        assert file.read(8, 5).tolist() == [8, 9]
        assert file.read(50, 5).tolist() == []


def test_a_missing_file_says_what_the_kernel_lacks(tmp_path: Path) -> None:
    with pytest.raises(KernelFileError, match=r"kpageflags: the kernel has no such file \(it needs CONFIG_"):
        KPageFlags(tmp_path)


def test_half_a_word_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "kpageflags").write_bytes(bytes(12))
    with KPageFlags(tmp_path) as file, pytest.raises(KernelFileError, match="in the middle of a word"):
        file.read(0, 4)


@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=400),
    st.sets(st.integers(0, 600), max_size=60),
)
def test_gather_is_as_reading_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, words: list[int], wanted: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("proc")
    write_words(folder / "kpagecgroup", words)
    pfns = sorted(wanted)
    with KPageCgroup(folder) as file:
        found = file.gather(np.array(pfns, dtype=np.uint64))
    assert found.tolist() == [words[pfn] if pfn < len(words) else 0 for pfn in pfns]


def test_gather_bridges_small_gaps_and_no_large_ones(tmp_path: Path) -> None:
    write_words(tmp_path / "kpagecgroup", list(range(5 * GATHER_GAP)))
    pfns = [0, GATHER_GAP, 2 * GATHER_GAP + 1, 4 * GATHER_GAP]
    with KPageCgroup(tmp_path) as file:
        assert file.gather(np.array(pfns, dtype=np.uint64)).tolist() == pfns


def test_flags_are_bits_as_the_kernel_numbers_them() -> None:
    bits = {"LRU": 5, "ANON": 12, "SWAPBACKED": 14, "COMPOUND_HEAD": 15, "COMPOUND_TAIL": 16, "NOPAGE": 20}
    assert {name: PageFlag[name].value for name in bits} == {name: 1 << bit for name, bit in bits.items()}


def test_pagemap_gives_page_frames_of_present_pages(tmp_path: Path) -> None:
    write_words(tmp_path / "self/pagemap", [0, 77 | PRESENT, 78 | PRESENT | 1 << 61, 5])
    with PageMap(tmp_path) as pagemap:
        assert pagemap.pfns(0, 4).tolist() == [0, 77, 78, 0]
        assert pagemap.pfns(2 * PAGE_SIZE, 1).tolist() == [78]


def test_pagemap_without_the_capability_is_no_empty_answer(tmp_path: Path) -> None:
    write_words(tmp_path / "self/pagemap", [PRESENT, PRESENT])
    with PageMap(tmp_path) as pagemap, pytest.raises(NotPrivileged, match="CAP_SYS_ADMIN"):
        pagemap.pfns(0, 2)


def test_pagemap_that_ends_early(tmp_path: Path) -> None:
    write_words(tmp_path / "self/pagemap", [0])
    with PageMap(tmp_path) as pagemap, pytest.raises(KernelFileError, match="ends before address 0x"):
        pagemap.pfns(0, 2)


def test_pagemap_missing(tmp_path: Path) -> None:
    with pytest.raises(KernelFileError, match="self/pagemap: No such file"):
        PageMap(tmp_path)
