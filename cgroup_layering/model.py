# SPDX-License-Identifier: LGPL-2.1-or-later
"""The words of the project as types: frozen data, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from cgroup_layering.holding.model import Hold
from cgroup_layering.holding.names import holder_name, mount_name
from cgroup_layering.unitfile import UnitFiles


class Tracking(StrEnum):
    """Where the memory controller is on: at layer and instance, or at the layer alone."""

    INSTANCE = "instance"
    SERVICE = "service"


class Timing(StrEnum):
    """When a layered service gets into its layer."""

    RESTART = "restart"
    NEXT_START = "next start"
    NEXT_BOOT = "next boot"
    IN_PLACE = "in its layer"


class Verdict(StrEnum):
    """What is decided about a service."""

    LAYERED = "layered"
    DEFERRED = "deferred"
    REFUSED = "refused"


class Change(StrEnum):
    """What a plan does to the files of one service."""

    ADD = "add"
    UPDATE = "update"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a service is refused or deferred, or what an administrator must know: a stable code and a sentence."""

    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """What the tool's own slice file says about one layer; paths are seen from the host, not the root.

    `systemd` is the release that the lines were written for, 0 where the file does not say; `limits` is False where
    the layer has none of its own (--no-layer-limits).
    """

    unit: str
    layer: str
    tracking: Tracking
    lifetime: str
    migration: str
    version: str
    folder_created: bool
    slice_file: Path
    drop_in: Path
    slice_text: str
    drop_in_text: str | None
    wanted_by: str = ""
    """The target that starts the layer at boot, by a link beside the two files; empty for none."""
    linked: bool = False
    """Whether that link is there."""
    limits: bool = True
    systemd: int = 0
    hold: Hold | None = None
    """The persistent resources that its holder realises, as the holder's file says."""
    domain_holders: tuple[str, ...] = ()
    """The holders of domains that its drop-in asks for."""
    held: tuple[tuple[Path, str], ...] = ()
    """Our holder and mount units beside the slice file, with their texts."""
    joined_plain: bool = False
    """Whether the service had no layer before it was added to its domain."""
    successor: str = ""
    """The layer that the service's drop-in leads to by now, where that is another one."""

    @property
    def complete(self) -> bool:
        """Whether both files are there; a crash can leave the slice file alone."""
        return self.drop_in_text is not None


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """One service as systemd and its files describe it; empty strings where the manager was not asked."""

    unit: str
    names: tuple[str, ...]
    load_state: str
    files: UnitFiles
    unit_file_state: str = ""
    active_state: str = "inactive"
    sub_state: str = "dead"
    fragment: Path | None = None
    parent: str = "system.slice"
    slice: str = ""
    control_group: str = ""
    type: str = "simple"
    remain_after_exit: bool = False
    kill_mode: str = "control-group"
    send_sigkill: bool = True
    delegate: bool = False
    delegate_controllers: frozenset[str] = frozenset()
    standard_input: str = "null"
    tty_path: str = ""
    oom_policy: str = "stop"
    default_dependencies: bool = True
    refuse_manual_start: bool = False
    refuse_manual_stop: bool = False
    ignore_on_isolate: bool = False
    survive_final_kill: bool = False
    accounting_default: bool = True
    transient: bool = False
    need_daemon_reload: bool = False
    job: str = ""
    propagates: tuple[str, ...] = ()
    """Units that a restart of this one restarts."""
    accept_socket: str = ""
    drop_in_folder: bool = False
    own: OwnFiles | None = None
    obstacle: Reason | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    """Its resource-control properties on D-Bus; none where the manager was not asked."""
    domain: str = ""
    """The slice of the domain that its layer is in, or is to be in; empty for none."""

    @property
    def home(self) -> str:
        """The slice that its layer belongs in."""
        return self.domain or self.parent

    @property
    def running(self) -> bool:
        """Whether an instance exists now (an exited RemainAfterExit unit has none)."""
        return self.active_state in ("active", "reloading", "activating", "deactivating") and bool(self.control_group)


@dataclass(frozen=True, slots=True)
class PathRule:
    """A rule outside of systemd that looks at a socket's or a process's cgroup.

    `paths` are the cgroups that it names, as below the root of the hierarchy (/system.slice/a.service). `level` is the
    number of components that nftables compares; None where descendants match too.
    """

    tool: str
    place: str
    text: str
    paths: tuple[str, ...] = ()
    level: int | None = None
    negated: bool = False
    sets: tuple[tuple[str, str, str], ...] = ()
    """Family, table and name of the nftables sets that the paths are looked up in."""
    unclear: str = ""
    """Why it isn't known which cgroups it names; empty if it is."""


@dataclass(frozen=True, slots=True)
class PathRules:
    """The rules of a host; `unseen` are sentences on what could not be looked at."""

    rules: tuple[PathRule, ...] = ()
    unseen: tuple[str, ...] = ()
    live: bool = False
    """Whether the kernel's nftables rules are among them."""


@dataclass(frozen=True, slots=True)
class Host:
    """All that is known of a host before anything is decided."""

    version: int
    services: Mapping[str, ServiceFacts]
    aliases: Mapping[str, str] = field(default_factory=dict)
    concurrency_slices: frozenset[str] = frozenset()
    oom_kill_units: Mapping[str, str] = field(default_factory=dict)
    """Slices below which systemd-oomd chooses whom to kill, and the setting (with its value) that says so."""
    caller_units: frozenset[str] = frozenset()
    online: bool = True
    path_rules: PathRules | None = None
    """None: nobody looked."""

    @property
    def propagates(self) -> dict[str, tuple[str, ...]]:
        """Whom a restart of each service restarts too."""
        return {unit: facts.propagates for unit, facts in self.services.items() if facts.propagates}


@dataclass(frozen=True, slots=True)
class Lifted:
    """A line that the slice file takes over from the service's files."""

    key: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Layering:
    """All that the two files of one layered service say; what `render` turns into text."""

    unit: str
    parent: str
    layer: str
    tracking: Tracking
    lifetime: str
    migration: str
    version: str
    folder_created: bool
    lifted: tuple[Lifted, ...] = ()
    resets: tuple[tuple[str, str], ...] = ()
    survive_final_kill: bool = False
    ignore_on_isolate: bool = False
    wanted_by: str = ""
    limits: bool = True
    systemd: int = 0
    hold: Hold | None = None
    """The persistent resources of the service."""
    domain_holders: tuple[str, ...] = ()
    """The holders of the domains that it is in, the outermost first."""
    early: bool = False
    """Whether the service may start before the host is up (DefaultDependencies=no)."""

    @property
    def held(self) -> tuple[str, ...]:
        """The holder and the mount units that go with the layer, in the order in which they are written."""
        if self.hold is None:
            return ()
        return holder_name(self.hold.owner), *(mount_name(one.path) for one in self.hold.tmpfs)

    @property
    def holders(self) -> tuple[tuple[str, str], ...]:
        """What makes the service's start wait for its holders: directives of [Unit] and their values."""
        around = tuple(("Wants", name) for name in self.domain_holders)
        if self.hold is None:
            return around
        return (*around, ("Requires" if self.hold.required else "Wants", holder_name(self.hold.owner)))

    domain: str = ""
    """The name of the domain that the layer is in."""
    joined_plain: bool = False


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """The decision about one service."""

    unit: str
    verdict: Verdict
    reasons: tuple[Reason, ...] = ()
    notes: tuple[Reason, ...] = ()
    change: Change = Change.NONE
    timing: Timing = Timing.NEXT_START
    layering: Layering | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The decisions about all services that were asked for, in the order of their names."""

    services: tuple[ServicePlan, ...]
    migration: str = ""
    notes: tuple[Reason, ...] = ()
    """What concerns the host, not one service."""

    @property
    def layered(self) -> tuple[ServicePlan, ...]:
        """Services that have or get a layer."""
        return tuple(service for service in self.services if service.verdict is not Verdict.REFUSED)

    @property
    def refused(self) -> tuple[ServicePlan, ...]:
        """Services that stay plain."""
        return tuple(service for service in self.services if service.verdict is Verdict.REFUSED)

    @property
    def changes(self) -> tuple[ServicePlan, ...]:
        """Services whose files change."""
        return tuple(service for service in self.services if service.change is not Change.NONE)
