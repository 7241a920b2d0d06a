# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules on cgroups, made by hand or as a tool printed them on a VM."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cgroup_layering.model import PathRule

OUTPUTS = Path(__file__).parent / "unit" / "outputs"


PLAIN = "/system.slice/hello.service"


LAYER = "/system.slice/system-hello.service.slice"


def output(name: str) -> str:
    """What a tool printed on a VM."""
    return (OUTPUTS / name).read_text()


def rule(path: str, level: int | None = 2, **changes: object) -> PathRule:
    """A rule of nftables."""
    plain = PathRule("nftables", "table inet fw, chain out, handle 7", "text", (path,), level)
    return replace(plain, **changes)  # type: ignore[arg-type]


SET = ("inet", "fw", "svcs")
