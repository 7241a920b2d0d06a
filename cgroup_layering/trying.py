# SPDX-License-Identifier: LGPL-2.1-or-later
"""A migration on trial: what takes it back unless somebody confirms it. Pure.

All its files are in /run, so a reboot or a power cut takes it back by itself. For everything else systemd runs a
script that needs nothing of ours: sh, rm and systemctl.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.holding.names import holder_name
from cgroup_layering.holding.state import FOLDER as STATE
from cgroup_layering.holding.state import paths
from cgroup_layering.model import Change, Plan, ServicePlan
from cgroup_layering.naming import slice_path
from cgroup_layering.own import boot_link, drop_in_path
from cgroup_layering.render import text_of
from cgroup_layering.systemd.manager import TransientTimer
from cgroup_layering.unitpaths import RUN

NAME = "cgroup-layering-try"
"""Of the timer and its service."""
FOLDER = Path("/run/cgroup-layering")
SHELL = "/bin/sh"
DEFAULT_SECONDS = 120.0
SHORTEST_SECONDS = 5.0
CONFIRMED, ROLLED_BACK = "confirmed", "rolled-back"
"""Files that say how the last try ended."""
_SCRIPT = re.compile(r"try-(?P<migration>[0-9TZ]+-[0-9a-f]+)\.sh", re.ASCII)


class NoTry(CgroupLayeringError):
    """There is nothing to confirm."""

    def __init__(self, rolled_back: bool) -> None:
        super().__init__(rolled_back)
        self.rolled_back = rolled_back
        self.hint = "`journalctl -t cgroup-layering` says when and why." if rolled_back else ""

    def __str__(self) -> str:
        return "The try was rolled back already." if self.rolled_back else "There is no migration on trial."


class TryUnderWay(CgroupLayeringError):
    """Two tries at once would take back each other's files."""

    hint = "Run `cgroup-layering confirm` or `cgroup-layering rollback` first."

    def __str__(self) -> str:
        return "A migration is on trial already."


@dataclass(frozen=True, slots=True)
class Tried:
    """One service of a try: its files, and where it runs if it moves."""

    unit: str
    layer: str
    files: tuple[Path, ...]
    folder: Path
    folder_created: bool
    link: Path | None = None
    """Of a layer that comes with the boot."""
    holder: str = ""
    """The unit that realises its persistent resources; empty for none."""
    known: tuple[Path, ...] = ()
    """What that may have recorded."""

    @property
    def cgroup(self) -> str:
        """The layer's cgroup, as systemd's ControlGroup shows it."""
        return slice_path(self.layer)


def tried(services: Iterable[ServicePlan]) -> list[Tried]:
    """What a try has to take back, in the order in which it does: drop-ins first, slices last."""
    found = []
    for service in services:
        layering = service.layering
        if layering is None:
            continue
        drop_in = drop_in_path(RUN, service.unit)
        files = (drop_in, *(RUN / name for name in reversed(layering.held)), RUN / layering.layer)
        link = boot_link(RUN / layering.layer) if layering.wanted_by else None
        holder = holder_name(layering.hold.owner) if layering.hold is not None else ""
        known = paths(layering.hold.owner) if layering.hold is not None else ()
        created = layering.folder_created
        found.append(Tried(service.unit, layering.layer, files, drop_in.parent, created, link, holder, known))
    return found


def only_new(plan: Plan) -> tuple[ServicePlan, ...]:
    """The services that a try can cover: files in /run would not beat those that are in /etc already."""
    return tuple(service for service in plan.layered if service.change is Change.ADD)


def script(migration: str, seconds: float, services: Iterable[Tried]) -> str:
    """The text of the script that takes the try back."""
    return text_of(
        "try-rollback.sh.j2",
        migration=migration,
        seconds=f"{seconds:g}",
        services=list(services),
        folder=str(FOLDER),
        state=str(STATE),
        confirmed=CONFIRMED,
        rolled_back=ROLLED_BACK,
        quote=lambda value: shlex.quote(str(value)),
    )


def script_name(migration: str) -> str:
    """The script's name in FOLDER; it says which migration is on trial."""
    return f"try-{migration}.sh"


def migration_on_trial(names: Iterable[str]) -> str | None:
    """The id that one of the names of FOLDER's files says, or None."""
    found = [match["migration"] for name in names if (match := _SCRIPT.fullmatch(name))]
    return max(found, default=None)


def timer(migration: str, seconds: float) -> TransientTimer:
    """What systemd is asked to run."""
    path = FOLDER / script_name(migration)
    return TransientTimer(NAME, f"Take back the migration {migration}", (SHELL, str(path)), seconds)
