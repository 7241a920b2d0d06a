# SPDX-License-Identifier: LGPL-2.1-or-later
"""drift-domain: a layer or a domain is in a domain whose slice file is masked or gone."""

from __future__ import annotations

from collections.abc import Iterator

from cgroup_layering.codes.code import Code, Kind, Level
from cgroup_layering.doctor.check import Check
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.domains.naming import domain_of_layer, domain_slice, outer
from cgroup_layering.domains.registry import all_domains
from cgroup_layering.unitpaths import fragment, is_masked

CODE = Code(
    "drift-domain",
    Kind.DRIFT,
    level=Level.ERROR,
    summary="The slice file of a domain is masked or gone.",
    means="Layers are in a domain, or in one inside of it, whose slice file was masked, removed or replaced.",
    matters=(
        "With a masked slice its services can't start at all. Without the file systemd makes the slice up: the domain "
        "has none of its limits, and it is stopped early at shutdown, with the services in it."
    ),
    remedy=(
        "Run `cgroup-layering domain create NAME` with its settings (after removing the mask or the foreign file), or "
        "take the services out with `cgroup-layering disable`."
    ),
    sources=(
        "systemd.slice(5)",
        "cgroup-layering-domain(8)",
    ),
)


def find(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Services whose domain, or one around it, has no file of ours."""
    known = all_domains(evidence.store)
    for unit, own in evidence.own.items():
        name = domain_of_layer(own.layer)
        while name and own.complete:
            if name not in known:
                yield unit, f"{unit} is in the domain {name}, whose {domain_slice(name)} {_what(evidence, name)}."
            name = outer(name)


def _what(evidence: Evidence, name: str) -> str:
    file = fragment(domain_slice(name), evidence.reader.dirs)
    if file is None:
        return "has no file: its limits are off, and shutdown stops it early"
    if is_masked(domain_slice(name), evidence.reader.dirs):
        return "is masked: the service cannot start"
    return "has a file that is not ours"


CHECK = Check(CODE, find, offline=True)
