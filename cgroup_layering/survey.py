# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where layered services stand now: layer, instance, and what outlived former instances; all read from the kernel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from cgroup_layering.errors import KernelFileError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.model import Change, Host, OwnFiles, ServiceFacts, ServicePlan, Tracking, Verdict
from cgroup_layering.naming import slice_path
from cgroup_layering.own import boot_link


class Place(StrEnum):
    """Where the service's instance is."""

    IN_LAYER = "in layer"
    PENDING = "pending"
    STOPPED = "not running"
    HALF = "incomplete"


@dataclass(frozen=True, slots=True)
class Standing:
    """One layered service; sizes in bytes, None where there is nothing to read."""

    unit: str
    layer: str
    tracking: Tracking
    lifetime: str
    migration: str
    active_state: str
    place: Place
    control_group: str
    layer_bytes: int | None
    instance_bytes: int | None
    drift: str = ""
    holder: str = ""
    """How the holder of its persistent resources stands, in words; empty for none."""

    @property
    def outlived_bytes(self) -> int | None:
        """What former instances left in the layer; None where the tracking does not tell it apart."""
        if self.layer_bytes is None:
            return None
        if self.place is not Place.IN_LAYER:
            return self.layer_bytes
        if self.instance_bytes is None:
            return None
        # The two are read one after the other, so a busy service can seem to leave less than nothing.
        return max(0, self.layer_bytes - self.instance_bytes)


def survey(host: Host, plans: Iterable[ServicePlan], fs: CgroupFS) -> list[Standing]:
    """The standing of every layered service among `plans`, in their order."""
    found = []
    for service in plans:
        facts = host.services[service.unit]
        if facts.own is not None:
            found.append(_standing(facts, service, fs))
    return found


def place_of(facts: ServiceFacts, layer: str, fs: CgroupFS) -> Place:
    """Where the instance is, by the cgroup it really has: the manager's `Slice` shows the new settings already."""
    if facts.own is not None and not facts.own.complete:
        return Place.HALF
    group = facts.control_group
    if not group or not fs.exists(group):
        return Place.STOPPED
    return Place.IN_LAYER if group.startswith(slice_path(layer) + "/") else Place.PENDING


def _standing(facts: ServiceFacts, service: ServicePlan, fs: CgroupFS) -> Standing:
    own = facts.own
    assert own is not None  # noqa: S101 - the caller looked
    place = place_of(facts, own.layer, fs)
    inside = place is Place.IN_LAYER and own.tracking is Tracking.INSTANCE
    return Standing(
        unit=facts.unit,
        layer=own.layer,
        tracking=own.tracking,
        lifetime=own.lifetime,
        migration=own.migration,
        active_state=facts.active_state,
        place=place,
        control_group=facts.control_group,
        layer_bytes=_bytes(fs, slice_path(own.layer)),
        instance_bytes=_bytes(fs, facts.control_group) if inside else None,
        drift=drift(service, own),
    )


def drift(service: ServicePlan, own: OwnFiles | None = None) -> str:
    """How the files differ from what they should be now, in a sentence; empty if they don't."""
    if service.verdict is Verdict.REFUSED:
        return service.reasons[0].sentence
    wanted = service.layering is not None and bool(service.layering.wanted_by)
    if own is not None and own.linked != wanted:
        does = "is missing: the layer does not come" if wanted else "lets the layer come, unlike its lifetime,"
        return f"{boot_link(own.slice_file)} {does} with the boot; `cgroup-layering reap` mends that."
    if service.change is Change.UPDATE:
        return f"The files of {service.unit} have changed since it was layered; run `cgroup-layering update`."
    return ""


def _bytes(fs: CgroupFS, cgroup: str) -> int | None:
    """memory.current in bytes, or None where there is no such cgroup or no memory controller on it."""
    try:
        return fs.read_int(cgroup, "memory.current")
    except KernelFileError:
        return None
