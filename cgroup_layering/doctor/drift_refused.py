# SPDX-License-Identifier: LGPL-2.1-or-later
"""drift-refused: the service would not be layered any more."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.model import Verdict

CODE = Code(
    "drift-refused",
    Kind.DRIFT,
    level=Level.WARNING,
    summary="The service would not be layered any more.",
    means=(
        "The service is layered, but as it is now `plan` would refuse it. The sentence says why; `explain` knows "
        "the code in it."
    ),
    matters="Our files stay as they are and can't be brought up to date.",
    remedy="Take the reason away, or run `cgroup-layering disable UNIT`.",
    sources=("cgroup-layering-plan(8)",),
)


# These have a check of their own, or are no trouble: a masked service does not run.
_ELSEWHERE = frozenset(("alias", "concurrency", "masked", "not-found", "outranked"))


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Layered services that a plan refuses."""
    for own, _ in evidence.layered:
        service = evidence.plans[own.unit]
        if service.verdict is Verdict.REFUSED and service.reasons[0].code not in _ELSEWHERE:
            yield own.unit, f"It would be refused now ({service.reasons[0].code}): {service.reasons[0].sentence}"


CHECK = Check(CODE, find, offline=True)
