# SPDX-License-Identifier: LGPL-2.1-or-later
"""host-accounting: memory accounting is off by default."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import HOST, Check
from cgroup_layering.doctor.evidence import Evidence

CODE = Code(
    "host-accounting",
    Kind.HOST,
    level=Level.NOTE,
    summary="Memory accounting is off by default.",
    means=(
        "systemd's DefaultMemoryAccounting= is no. Services that don't ask for memory accounting themselves have no"
        " memory controller."
    ),
    matters=(
        "Such services get *service* tracking by themselves (see *accounting-off*). A layer always has accounting, "
        "and with it the kernel counts for all services of the same slice."
    ),
    remedy=(
        "Nothing is to be done. To have figures of instances too, take `DefaultMemoryAccounting=no` out of "
        "*system.conf*."
    ),
    sources=("systemd-system.conf(5)",),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Whether the default is off."""
    if not evidence.manager.default_memory_accounting():
        yield HOST, "DefaultMemoryAccounting= is no: only layers, and services that ask for it, count memory."


CHECK = Check(CODE, find)
