# SPDX-License-Identifier: LGPL-2.1-or-later
"""drift-temporary: a crash left a temporary file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import HOST, Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.rooted import StoreError
from cgroup_layering.unitpaths import ETC, RUN

CODE = Code(
    "drift-temporary",
    Kind.DRIFT,
    level=Level.WARNING,
    summary="A crash left a temporary file.",
    means=(
        "Files are written under a name that begins with *.cgroup-layering-*, then renamed. One was left: the "
        "program or the host died in the middle."
    ),
    matters=(
        "The file itself does nothing, systemd does not read it. But what the program was about to do may not be "
        "done: look at the other findings."
    ),
    remedy="Run the command again that was cut off, or remove the file.",
    sources=('cgroup-layering(8), "FILES"',),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Temporary files in the folders that we write to."""
    for folder in (ETC, RUN):
        for path in [] if evidence.words else evidence.temporaries(folder):
            yield HOST, f"{path} was left by a run that did not end."
        for name in evidence.store.names(folder):
            unit = name.removesuffix(".d")
            if name.endswith(".service.d") and evidence.wanted(unit):
                for path in _below(evidence, folder / name):
                    yield unit, f"{path} was left by a run that did not end."


def _below(evidence: Evidence, folder: Path) -> list[Path]:
    try:
        return evidence.temporaries(folder)
    except StoreError:
        return []  # a link or a file: we never write there


CHECK = Check(CODE, find, offline=True)
