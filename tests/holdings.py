# SPDX-License-Identifier: LGPL-2.1-or-later
"""Declarations of persistent resources for tests."""

from __future__ import annotations

from cgroup_layering.holding.model import BpfMapSpec, Hold, Tmpfs

FULL = Hold(
    "a.service",
    required=True,
    files=("/var/lib/a b/%i/*.db", "/srv/a/*"),
    max_bytes=1 << 20,
    tmpfs=(Tmpfs("/run/a", 1 << 20, "0750", "a:adm", "/srv/seed"),),
    maps=(BpfMapSpec("/sys/fs/bpf/a", "hash", 4, 8, 16),),
)
HOLD = Hold("hello.service", maps=(BpfMapSpec("/sys/fs/bpf/h", "array", 4, 8, 16),))
