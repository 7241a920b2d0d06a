# SPDX-License-Identifier: LGPL-2.1-or-later
"""/proc/kpageflags: what each page frame is used for.

Source: Documentation/admin-guide/mm/pagemap.rst, include/uapi/linux/kernel-page-flags.h and fs/proc/page.c.
"""

from __future__ import annotations

from enum import IntFlag

from cgroup_layering.kernel.pfnfile import PfnFile


class PageFlag(IntFlag):
    """Flags of a page frame, as bits of its word."""

    LOCKED = 1 << 0
    ERROR = 1 << 1
    REFERENCED = 1 << 2
    UPTODATE = 1 << 3
    DIRTY = 1 << 4
    LRU = 1 << 5
    ACTIVE = 1 << 6
    SLAB = 1 << 7
    WRITEBACK = 1 << 8
    RECLAIM = 1 << 9
    BUDDY = 1 << 10
    MMAP = 1 << 11
    ANON = 1 << 12
    SWAPCACHE = 1 << 13
    SWAPBACKED = 1 << 14
    COMPOUND_HEAD = 1 << 15
    COMPOUND_TAIL = 1 << 16
    HUGE = 1 << 17
    UNEVICTABLE = 1 << 18
    HWPOISON = 1 << 19
    NOPAGE = 1 << 20
    KSM = 1 << 21
    THP = 1 << 22
    OFFLINE = 1 << 23
    ZERO_PAGE = 1 << 24
    IDLE = 1 << 25
    PGTABLE = 1 << 26


class KPageFlags(PfnFile):
    """/proc/kpageflags. On kernels before 6.10 the tails of a compound page lack most of its head's flags."""

    name = "kpageflags"
