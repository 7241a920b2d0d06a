# SPDX-License-Identifier: LGPL-2.1-or-later
"""host-bpf: which cgroup a bpf map is charged to can't be seen here."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import HOST, Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.kernel.bpf import BpfUnavailable, check

CODE = Code(
    "host-bpf",
    Kind.HOST,
    level=Level.NOTE,
    summary="Which cgroup a bpf map is charged to can't be seen here.",
    means=(
        "It is read by a bpf program, which needs bpftool(8), the kernel's types in */sys/kernel/btf/vmlinux*, a "
        "bpf file system at */sys/fs/bpf* and the program of the package."
    ),
    matters=(
        "`charges` and `reap` can't name the maps that a layer holds: they count as not attributed. Layers work "
        "without."
    ),
    remedy="Do what `cgroup-layering charges --bpf` says, mostly `apt install bpftool`.",
    sources=(
        "cgroup-layering-charges(8)",
        "bpftool(8)",
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The first thing that is missing."""
    try:
        check(
            evidence.program,
            btf=evidence.sys / "kernel/btf/vmlinux",
            mounts=evidence.proc / "self/mounts",
            tool_path=evidence.tool_path,
            euid=0,
        )
    except BpfUnavailable as error:
        yield HOST, f"Owners of bpf maps can't be seen: {error.reason}."


CHECK = Check(CODE, find)
