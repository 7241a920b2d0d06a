# SPDX-License-Identifier: LGPL-2.1-or-later
"""host-psi: pressure stall information is off."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import HOST, Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.errors import KernelFileError

CODE = Code(
    "host-psi",
    Kind.HOST,
    level=Level.NOTE,
    summary="Pressure stall information is off.",
    means="The kernel does not measure how long tasks wait for memory: */proc/pressure/memory* can't be read.",
    matters="systemd-oomd(8) and MemoryPressureWatch= do nothing then. Layers work without.",
    remedy="Boot with `psi=1` on the kernel's command line.",
    sources=("Documentation/accounting/psi.rst in the kernel's tree",),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Whether the kernel measures memory pressure."""
    try:
        evidence.read_proc("pressure/memory")
    except KernelFileError as error:
        yield HOST, f"The kernel measures no pressure ({error.path}: {error.reason})."


CHECK = Check(CODE, find)
