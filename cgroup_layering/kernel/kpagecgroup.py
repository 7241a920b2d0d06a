# SPDX-License-Identifier: LGPL-2.1-or-later
"""/proc/kpagecgroup and /proc/kpagecount: who a page frame is charged to, how often it is mapped.

Source: Documentation/admin-guide/mm/pagemap.rst and page_cgroup_ino() in mm/memcontrol.c.
"""

from __future__ import annotations

from cgroup_layering.kernel.pfnfile import PfnFile


class KPageCgroup(PfnFile):
    """/proc/kpagecgroup: the inode number of the cgroup that a page frame is charged to, 0 for none.

    A dying cgroup appears as its closest living ancestor. Kernels before 6.6 say 0 for the tails of a
    compound page: charges.pages resolves them through their heads.
    """

    name = "kpagecgroup"


class KPageCount(PfnFile):
    """/proc/kpagecount: how many page table entries map a page frame, the reader's own included."""

    name = "kpagecount"
