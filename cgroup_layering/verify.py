# SPDX-License-Identifier: LGPL-2.1-or-later
"""Is every promise kept? One check per promise and service, with what is expected and what is there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cgroup_layering.effective.kernel import effective, one
from cgroup_layering.effective.quantities import UNLIMITED, pages
from cgroup_layering.effective.readback import chain
from cgroup_layering.effective.settings import FILES, Properties, combined, in_kernel
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.model import Host, OwnFiles, ServiceFacts, ServicePlan, Tracking
from cgroup_layering.naming import slice_path
from cgroup_layering.spans import parse_size
from cgroup_layering.survey import Place, drift, place_of
from cgroup_layering.unitfile import Setting, parse


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


def checks(host: Host, service: ServicePlan, fs: CgroupFS, slices: Mapping[str, Properties]) -> Iterator[Check]:
    """All checks of one layered service; `slices` are the properties of its layer and of the slices above.

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
    yield from _limits(own, fs, slices[own.layer])
    if own.tracking is Tracking.INSTANCE:
        yield from _effective(facts, fs, slices)


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


def _limits(own: OwnFiles, fs: CgroupFS, layer: Properties) -> Iterator[Check]:
    """Every line that the slice file takes over must hold in the layer's cgroup."""
    lifted = {s.key: s for s in parse(own.slice_text, own.slice_file) if s.section == "Slice" and s.key in FILES}
    for key, setting in lifted.items():
        actual = one(fs, slice_path(own.layer), FILES[key])
        yield Check(own.unit, f"{key} at layer", _expected(setting, layer.get(key)), actual or "no such file")


def _expected(setting: Setting, live: object) -> str:
    """What the kernel file should say: sizes in whole pages, `max` for none; a percentage as systemd has it."""
    if setting.key.endswith("Weight"):
        read = setting.value == "idle" or (setting.value.isdigit() and 1 <= int(setting.value) <= 10000)
        # What systemd can't read it ignores, and the line before holds.
        return setting.value if read else str(live)
    try:
        size = parse_size(setting.value)
    except ValueError:
        size = live if isinstance(live, int) and live < 2**64 - 1 else None
    return UNLIMITED if size is None else pages(size)


def _effective(facts: ServiceFacts, fs: CgroupFS, slices: Mapping[str, Properties]) -> Iterator[Check]:
    """What holds over all levels must be what the service's own settings ask for: `instance` changes none of them."""
    above = [slices[name] for name in chain(facts.home)]
    actual = effective(fs, slice_path(facts.home), facts.control_group)
    for key, expected in in_kernel(combined(above, [facts.settings])).items():
        if key in actual:
            yield Check(facts.unit, f"{key} in all", expected, actual[key])


def slices_of(facts: ServiceFacts) -> tuple[str, ...]:
    """The slices whose properties `checks` looks at."""
    return (*chain(facts.home), *((facts.own.layer,) if facts.own is not None else ()))
