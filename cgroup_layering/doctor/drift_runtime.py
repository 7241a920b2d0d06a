# SPDX-License-Identifier: LGPL-2.1-or-later
"""drift-runtime: the service is layered until the next boot."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.unitpaths import RUN

CODE = Code(
    "drift-runtime",
    Kind.DRIFT,
    level=Level.NOTE,
    summary="The service is layered until the next boot.",
    means="Its files are below */run/systemd/system*, as `--runtime` writes them.",
    matters="After the next boot the service is plain.",
    remedy="To keep the layer, run `cgroup-layering enable UNIT`.",
    sources=("cgroup-layering-enable(8)",),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Layerings in /run."""
    for own in evidence.own.values():
        if own.slice_file.is_relative_to(RUN):
            yield own.unit, f"The files of {own.unit} are below {RUN} and go with the next boot."


CHECK = Check(CODE, find, offline=True)
