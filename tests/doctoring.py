# SPDX-License-Identifier: LGPL-2.1-or-later
"""A layering as files on a root, and what a doctor's examination said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cgroup_layering import render
from cgroup_layering._version import __version__
from cgroup_layering.doctor.check import Check, Examination
from cgroup_layering.doctor.checks import CHECKS
from cgroup_layering.model import Layering
from tests.layerings import layering
from tests.planting import ETC, put

HELLO = "hello.service"
LAYER = "system-hello.service.slice"


def place(root: Path, wanted: Layering, folder: str = ETC) -> None:
    """The two files of a layering, as `enable` writes them."""
    put(root, {f"{folder}/{wanted.layer}": render.slice_text(wanted)})
    put(root, {f"{folder}/{wanted.unit}.d/zz-cgroup-layering.conf": render.drop_in_text(wanted)})


def ours(**changes: Any) -> Layering:
    return layering(lifetime="", version=__version__, **changes)


def only(*names: str) -> list[Check]:
    return [check for check in CHECKS if check.code.name in names]


def codes(result: Examination) -> set[str]:
    assert result.not_run == {}
    return {finding.code for finding in result.findings}


def sentences(result: Examination) -> str:
    return "\n".join(finding.sentence for finding in result.findings)
