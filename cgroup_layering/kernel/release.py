# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a kernel's release says about cgroups that are removed."""

from __future__ import annotations

import os
import re

from cgroup_layering.errors import HostUnsuitable


def kernel_version(release: str) -> tuple[int, int]:
    """Major and minor version of a kernel's release.

    Linux 7.1 gives dying cgroups' pages to their parents, so they don't pile up any more.
    """
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def check_kernel(release: str = "") -> None:
    """Raises HostUnsuitable on kernels that can hang for ever when a cgroup with dying tasks is removed.

    6.19.11 to the end of 6.19 and 7.0.0 to 7.0.8 (cgroup_drain_dying() in kernel/cgroup/cgroup.c).
    """
    release = release or os.uname().release
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    version = tuple(int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    if (6, 19, 11) <= version < (6, 20, 0) or (7, 0, 0) <= version <= (7, 0, 8):
        raise HostUnsuitable(
            f"Linux {release} can hang for ever when a cgroup is removed, so no layer is removed on it.",
            "Linux 7.0.9 and 7.1 have the fix.",
        )
