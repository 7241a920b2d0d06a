# SPDX-License-Identifier: LGPL-2.1-or-later
"""Is every promise kept? One check per promise and service, with what is expected and what is there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cgroup_layering.controls import DIRECTIVES
from cgroup_layering.errors import KernelFileError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.model import Host, OwnFiles, ServiceFacts, ServicePlan, Tracking
from cgroup_layering.naming import slice_path
from cgroup_layering.settling import LIMIT_FILES, PAGE
from cgroup_layering.spans import parse_size
from cgroup_layering.survey import Place, drift, place_of
from cgroup_layering.unitfile import Setting, parse

_FILES = {**LIMIT_FILES, "CPUWeight": "cpu.weight", "IOWeight": "io.weight"}
"""Directives whose value stands alone in one file of the layer's cgroup (src/core/cgroup.c)."""


@dataclass(frozen=True, slots=True)
class Check:
    """One promise about one service: what is expected, what is there."""

    unit: str
    promise: str
    expected: str
    actual: str

    @property
    def kept(self) -> bool:
        """Whether the promise is kept."""
        return self.expected == self.actual


def checks(host: Host, service: ServicePlan, fs: CgroupFS, slice_props: Mapping[str, object]) -> Iterator[Check]:
    """All checks of one layered service; `slice_props` are the D-Bus properties of its layer.

    What a pending service has is judged by the cgroup that it runs in: its new settings come with its next start.
    """
    facts = host.services[service.unit]
    own = facts.own
    if own is None:
        yield Check(service.unit, "layered", "yes", "no")
        return
    yield Check(own.unit, "files", "complete and up to date", _files(own, service))
    if not own.complete:
        return
    yield Check(own.unit, "slice", own.layer, facts.slice)
    if place_of(facts, own.layer, fs) is not Place.IN_LAYER:
        return
    yield Check(own.unit, "cgroup", f"{slice_path(own.layer)}/{facts.unit}", _cgroup(facts))
    yield from _controllers(own, facts, fs)
    yield from _limits(own, fs, slice_props)


def _files(own: OwnFiles, service: ServicePlan) -> str:
    if not own.complete:
        return f"{own.drop_in} is missing"
    return drift(service, own) or "complete and up to date"


def _cgroup(facts: ServiceFacts) -> str:
    """The cgroup of the instance; a name that could be taken for a kernel file gets a `_` in front (cg_escape)."""
    head, _, name = facts.control_group.rpartition("/")
    return f"{head}/{name.removeprefix('_')}" if name == f"_{facts.unit}" else facts.control_group


def _controllers(own: OwnFiles, facts: ServiceFacts, fs: CgroupFS) -> Iterator[Check]:
    layer = slice_path(own.layer)
    yield Check(own.unit, "memory at layer", "on", _on("memory" in fs.controllers(layer)))
    expected = _on(own.tracking is Tracking.INSTANCE)
    yield Check(own.unit, "memory at instance", expected, _on("memory" in fs.controllers(facts.control_group)))
    yield Check(own.unit, "oomd leaves the empty layer alone", "yes", _omitted(fs, layer))


def _on(value: bool) -> str:
    return "on" if value else "off"


def _omitted(fs: CgroupFS, layer: str) -> str:
    """ManagedOOMPreference=omit is an extended attribute (src/core/cgroup.c, `cgroup_oomd_xattr_apply`)."""
    try:
        return "yes" if os.getxattr(fs.directory(layer), "user.oomd_omit") == b"1" else "no"
    except OSError:
        return "no"


def _limits(own: OwnFiles, fs: CgroupFS, slice_props: Mapping[str, object]) -> Iterator[Check]:
    """Every line that the slice file takes over must hold in the layer's cgroup."""
    lifted = {s.key: s for s in parse(own.slice_text, own.slice_file) if s.section == "Slice" and s.key in _FILES}
    for key, setting in lifted.items():
        name = _FILES[key]
        try:
            actual = fs.read_text(slice_path(own.layer), name)
        except KernelFileError as error:
            actual = error.reason
        expected = _expected(setting, slice_props.get(key))
        yield Check(own.unit, f"{key} at layer", expected, actual.removeprefix("default "))


def _expected(setting: Setting, live: object) -> str:
    """What the kernel file should say: sizes in whole pages, `max` for none; a percentage as systemd has it."""
    if setting.key.endswith("Weight"):
        return "0" if setting.value == "idle" else setting.value
    try:
        size = parse_size(setting.value)
    except ValueError:
        size = live if isinstance(live, int) and live < 2**64 - 1 else None
    return "max" if size is None else str(size // PAGE * PAGE)


def slice_properties() -> tuple[str, ...]:
    """The D-Bus properties of a layer that `checks` looks at."""
    return tuple(name for name in _FILES if name in DIRECTIVES)
