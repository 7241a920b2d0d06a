# SPDX-License-Identifier: LGPL-2.1-or-later
"""host-uncharged-kernel: the kernel's command line takes kernel memory out of the charges."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import HOST, Check
from cgroup_layering.doctor.evidence import Evidence

CODE = Code(
    "host-uncharged-kernel",
    Kind.HOST,
    level=Level.WARNING,
    summary="The kernel's command line takes kernel memory out of the charges.",
    means=(
        "`cgroup.memory=` on the kernel's command line has *nokmem* (no kernel objects are charged), *nobpf* (no "
        "bpf maps and programs) or *nosocket* (no socket buffers)."
    ),
    matters=(
        "What is not charged to any cgroup can't be kept by a layer, limited or shown: with *nokmem* or *nobpf* "
        "pinned bpf maps are nobody's."
    ),
    remedy="Boot without the option, unless it was chosen for a reason that weighs more.",
    sources=("Documentation/admin-guide/kernel-parameters.txt in the kernel's tree",),
)


_WHAT = {"nokmem": "kernel objects and bpf maps", "nobpf": "bpf maps", "nosocket": "socket buffers"}


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Which options are set."""
    for word in evidence.read_proc("cmdline").split():
        key, _, value = word.partition("=")
        for option in value.split(",") if key == "cgroup.memory" else ():
            if option in _WHAT:
                yield (
                    HOST,
                    f"cgroup.memory={option} on the kernel's command line: {_WHAT[option]} are charged to nobody.",
                )


CHECK = Check(CODE, find)
