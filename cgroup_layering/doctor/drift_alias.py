# SPDX-License-Identifier: LGPL-2.1-or-later
"""drift-alias: the layered name is an alias of another unit now."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence

CODE = Code(
    "drift-alias",
    Kind.DRIFT,
    level=Level.WARNING,
    summary="The layered name is an alias of another unit now.",
    means=(
        "The service was layered under a name that has become an alias, as when *dbus-broker.service* takes over "
        "*dbus.service*."
    ),
    matters=(
        "Our drop-in applies to the other unit too, as drop-ins of aliases do, and puts it into a layer that bears "
        "another name."
    ),
    remedy="Run `cgroup-layering disable OLD-NAME`, then `cgroup-layering enable NEW-NAME`.",
    sources=('systemd.unit(5), "Description"',),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Layerings whose unit is an alias."""
    for own, _ in evidence.layered:
        primary = evidence.host.aliases.get(own.unit)
        if primary is not None:
            yield own.unit, f"{own.unit} is an alias of {primary} now, which our files of {own.unit} apply to."


CHECK = Check(CODE, find, offline=True)
