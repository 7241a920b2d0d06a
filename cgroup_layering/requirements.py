# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a host must have before anything is changed on it."""

from __future__ import annotations

import os
from pathlib import Path

from cgroup_layering.errors import HostUnsuitable, NotPrivileged
from cgroup_layering.kernel.cgroupfs import CGROUP_ROOT, CgroupFS

OLDEST_SYSTEMD = 252


def check_root_rights(action: str) -> None:
    """Raises NotPrivileged unless the effective user is root; `action` completes "rights are needed to ..."."""
    if os.geteuid() != 0:
        raise NotPrivileged(action)


def check_cgroups(root: Path = CGROUP_ROOT) -> CgroupFS:
    """The host's cgroup hierarchy; raises HostUnsuitable unless it is pure v2 with the memory controller."""
    if not (root / "cgroup.controllers").exists():
        hybrid = (root / "unified" / "cgroup.controllers").exists()
        kind = "a hybrid of cgroup v1 and v2" if hybrid else "no cgroup v2"
        raise HostUnsuitable(
            f"This host has {kind} at {root}, and layers need cgroup v2 alone.",
            "Boot without systemd.unified_cgroup_hierarchy=0 and systemd.legacy_systemd_cgroup_controller.",
        )
    fs = CgroupFS(root)
    if "memory" not in fs.controllers("/"):
        raise HostUnsuitable(
            "The memory controller of this host is off, so there are no charges to keep.",
            "Boot without cgroup_disable=memory on the kernel's command line.",
        )
    return fs


def check_systemd(version: int) -> None:
    """Raises HostUnsuitable for releases older than those that this program knows."""
    if version < OLDEST_SYSTEMD:
        raise HostUnsuitable(f"systemd {version} is too old: {OLDEST_SYSTEMD} or later is needed.")
