# SPDX-License-Identifier: LGPL-2.1-or-later
"""See that a live layer has the limits that its changed file gives it.

systemd 252 and 262 write them at the daemon-reload. 257 does not (seen on 257.13): its D-Bus properties show the new
values, the layer's cgroup keeps the old ones until the service is restarted. So what is still old is written here, with
the value that systemd itself has for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from cgroup_layering.errors import KernelFileError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.naming import slice_path
from cgroup_layering.systemd.manager import SLICE, Manager

LIMIT_FILES = {
    "MemoryMin": "memory.min",
    "MemoryLow": "memory.low",
    "MemoryHigh": "memory.high",
    "MemoryMax": "memory.max",
    "MemorySwapMax": "memory.swap.max",
    "MemoryZSwapMax": "memory.zswap.max",
}
PAGE = os.sysconf("SC_PAGE_SIZE")
_UNSET = 2**64 - 1
_MAX = "max"


def settle(manager: Manager, fs: CgroupFS, layers: Iterable[str]) -> list[str]:
    """Bring the memory limits of live `layers` up to date; a sentence for each that could not be written.

    Limits are bytes on both sides; the kernel rounds them down to whole pages (cgroup-v2.rst, "memory.max").
    """
    live = [layer for layer in layers if fs.exists(slice_path(layer))]
    props = manager.properties(live, SLICE, LIMIT_FILES)
    remarks = []
    for layer in live:
        folder = fs.directory(slice_path(layer))
        for key, name in LIMIT_FILES.items():
            value = props[layer].get(key)
            if not isinstance(value, int):
                continue
            try:
                actual = fs.read_int(slice_path(layer), name)
            except KernelFileError:
                # This kernel has no such file, so there is nothing to be old.
                continue
            wanted = None if value == _UNSET else value // PAGE * PAGE
            if actual != wanted:
                try:
                    (folder / name).write_text(_MAX if wanted is None else str(wanted))
                except OSError as error:
                    reason = error.strerror or str(error)
                    remarks.append(f"{layer} keeps its old {key} until its service is restarted: {reason}.")
    return remarks
