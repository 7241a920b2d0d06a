# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every code that the program prints: decisions of `plan`, findings of `doctor`."""

from __future__ import annotations

from cgroup_layering.codes.code import Code
from cgroup_layering.codes.deferrals import DEFERRALS
from cgroup_layering.codes.notes import NOTES
from cgroup_layering.codes.refusals import REFUSALS


def all_codes() -> dict[str, Code]:
    """The codes by name, in the order of the manual."""
    # The checks import what they look at; decisions alone don't need that.
    from cgroup_layering.doctor.checks import CHECKS

    return {code.name: code for code in (*REFUSALS, *NOTES, *DEFERRALS, *(check.code for check in CHECKS))}
