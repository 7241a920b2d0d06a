# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which plain services `auto` may want layered, as far as names tell, and which of them `reap` has looked at already.

Whether a service can be layered is for the planner to say, in `reap`: here is only what is cheap enough to ask at every
event. A service that stays plain after a run is left alone until its unit file changes. Pure.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from cgroup_layering.config.model import Config
from cgroup_layering.naming import is_service_name, is_template, template_of
from cgroup_layering.systemd.manager import UnitFileRow, UnitRow

_NOT_FOR_US = ("masked", "masked-runtime", "transient", "alias", "bad")
"""Enablement states (systemctl(1), `is-enabled`) of files that are no service of their own."""


def family(unit: str) -> str:
    """What a service is known by here: an instance by its template, as connections come and go by the thousand."""
    return template_of(unit) or unit


def newcomers(
    files: Iterable[UnitFileRow], loaded: Iterable[UnitRow], layered: Container[str], config: Config
) -> frozenset[str]:  # fmt: skip
    """Plain services that are installed, and loaded instances, that the configuration wants layered."""
    installed = {row.name for row in files if row.state not in _NOT_FOR_US and not is_template(row.name)}
    instances = {row.name for row in loaded if template_of(row.name) and row.load_state == "loaded"}
    return frozenset(unit for unit in installed | instances if unit not in layered and config.auto_for(unit))


class Settled:
    """Services that a run of `reap` has left plain."""

    def __init__(self) -> None:
        self._families: set[str] = set()
        self._fresh: set[str] = set()
        """What came or changed since that run began: it may not have seen it."""

    def left(self, found: Iterable[str]) -> set[str]:
        """Those of the newcomers that no run has looked at."""
        return {unit for unit in found if not self.knows(unit)}

    def knows(self, unit: str) -> bool:
        """Whether a run has looked at a service of this family."""
        return family(unit) in self._families

    def begin(self) -> None:
        """A run begins."""
        self._fresh.clear()

    def end(self, found: Iterable[str]) -> None:
        """A run has ended, and these are still plain."""
        self._families = {one for one in self._families if one.endswith("@.service")}
        self._families |= {family(unit) for unit in found} - self._fresh

    def changed(self, name: str) -> None:
        """A file in a unit folder came, went or was written: a unit's own, or its folder of drop-ins."""
        unit = name.removesuffix(".d")
        if is_service_name(unit):
            self._families.discard(family(unit))
            self._fresh.add(family(unit))
