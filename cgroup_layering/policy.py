# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which services are layered, refused or deferred, each with a stable code and a sentence. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from cgroup_layering.holding.names import owner_of
from cgroup_layering.model import Host, Reason, ServiceFacts, Timing
from cgroup_layering.naming import NameTooLong, ancestors, layer_name
from cgroup_layering.restarting import closure

_USER_SLICES = ("user", "machine", "capsule")
_USER_UNITS = ("user@*.service", "user-runtime-dir@*.service", "capsule@*.service")

_CRITICAL = (
    "dbus.service",
    "dbus-broker.service",
    "systemd-logind.service",
    "systemd-journald*.service",
    "systemd-udevd.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-userdbd.service",
    "systemd-cryptsetup@*.service",
    "systemd-fsck*.service",
    "NetworkManager.service",
    "networking.service",
    "ifup@*.service",
    "wpa_supplicant*.service",
    "iwd.service",
    "nftables.service",
    "netfilter-persistent.service",
    "firewalld.service",
    "ssh.service",
    "sshd.service",
    "display-manager.service",
    "gdm*.service",
    "lightdm.service",
    "sddm.service",
    "getty@*.service",
    "serial-getty@*.service",
    "console-getty.service",
    "container-getty@*.service",
    "lvm2-*.service",
    "multipathd.service",
    "iscsid.service",
    "open-iscsi.service",
    "zfs-*.service",
    "auditd.service",
)
"""The host, its storage or a person's way in hangs on them: moved at boot, never restarted live."""

_PAYLOADS = (
    "containerd.service",
    "docker.service",
    "crio.service",
    "libvirtd.service",
    "virtqemud.service",
    "kubelet.service",
    "lxc*.service",
    "incus*.service",
)
"""Their containers and guests outlive them, or die with them: neither is for a migration to decide."""

_PASSING = ("changing", "job")
"""Deferrals of one service that say nothing about restarts through another."""

_SETTLED = ("active", "inactive", "failed")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A name or glob of services that stay plain unless they are named, and the configuration file that says so."""

    glob: str
    path: Path


def excluded_by(unit: str, exclusions: Iterable[Exclusion]) -> Exclusion | None:
    """The exclusion that holds for a service, or None."""
    return next((one for one in exclusions if fnmatchcase(unit, one.glob)), None)


def refusal(facts: ServiceFacts, host: Host) -> Reason | None:
    """Why a service can't be layered, or None."""
    return next(_refusals(facts, host), None)


def _refusals(facts: ServiceFacts, host: Host) -> Iterator[Reason]:
    unit = facts.unit
    owner = owner_of(unit)
    if owner is not None:
        yield Reason("holder", f"{unit} is the holder of {owner}: it is ours, and runs inside that layer.")
    if facts.load_state == "template":
        yield Reason("template", f"{unit} is a template; its instances are layered, one by one.")
    if facts.load_state == "alias":
        yield Reason("alias", f"{unit} is an alias of {host.aliases.get(unit, 'another unit')}; name that one.")
    if facts.load_state == "masked" or facts.unit_file_state in ("masked", "masked-runtime"):
        yield Reason("masked", f"{unit} is masked, so it never runs.")
    if facts.load_state == "not-found":
        yield Reason("not-found", f"{unit} is not installed.")
    if facts.load_state in ("error", "bad-setting"):
        yield Reason("bad-unit", f"{unit} cannot be loaded by systemd; see `systemctl status {unit}`.")
    if facts.transient:
        yield Reason("transient", f"{unit} is transient: it has no unit file and is gone when it stops.")
    if facts.accept_socket:
        yield Reason(
            "connection",
            f"{unit} serves one connection of {facts.accept_socket} (Accept=yes); the slice of its template "
            "outlives it already.",
        )
    if any(fnmatchcase(unit, pattern) for pattern in _USER_UNITS):
        yield Reason("user-session", f"{unit} belongs to a user's session, not to the system's services.")
    if facts.parent.removesuffix(".slice").split("-")[0] in _USER_SLICES:
        yield Reason("outside-system", f"{unit} lives in {facts.parent}, outside the system's services.")
    for name in (facts.home, *ancestors(facts.home)):
        if name in host.concurrency_slices:
            yield Reason(
                "concurrency",
                f"{unit} is in {name}, which limits how many units it has at a time, and a layer counts as one.",
            )
    try:
        layer_name(unit, facts.home)
    except NameTooLong as error:
        yield Reason("name-too-long", str(error))
    if facts.obstacle is not None:
        yield facts.obstacle


def deferrals(facts: ServiceFacts, host: Host) -> tuple[tuple[Timing, Reason], ...]:
    """Why a service is not restarted live, with the time when it gets into its layer; empty if it may be."""
    return (*_deferrals(facts, host), *_through_others(facts, host))


def _through_others(facts: ServiceFacts, host: Host) -> Iterator[tuple[Timing, Reason]]:
    """Its restart would restart others, some of which are not to be restarted live."""
    for other in sorted(closure(facts.unit, host.propagates)) if facts.propagates else ():
        found = host.services.get(other)
        if found is not None and found.running:
            reasons = [one for one in _deferrals(found, host) if one[1].code not in _PASSING]
        elif found is None and _is_critical(other):
            reasons = [_boot("critical", f"{other} keeps this host running or reachable.")]
        else:
            reasons = []
        for when, reason in reasons[:1]:
            sentence = f"A restart of {facts.unit} restarts {other} too: {reason.sentence}"
            yield when, Reason("propagates", sentence)


def _is_critical(unit: str) -> bool:
    return any(fnmatchcase(unit, pattern) for pattern in _CRITICAL)


def _deferrals(facts: ServiceFacts, host: Host) -> Iterator[tuple[Timing, Reason]]:
    unit = facts.unit
    if unit in host.caller_units:
        yield _boot("caller", f"{unit} carries the session that this command runs in.")
    if not facts.default_dependencies:
        yield _boot("early", f"{unit} has DefaultDependencies=no: it belongs to early boot or late shutdown.")
    if facts.kill_mode in ("process", "none") or not facts.send_sigkill:
        what = f"KillMode={facts.kill_mode}" if facts.kill_mode in ("process", "none") else "SendSIGKILL=no"
        yield _boot("leftovers", f"{unit} has {what}: processes left by a stop keep the old cgroup in use.")
    if _is_critical(unit):
        yield _boot("critical", f"{unit} keeps this host running or reachable.")
    if any(fnmatchcase(unit, pattern) for pattern in _PAYLOADS):
        yield _boot("payload", f"{unit} has containers or guests that a restart could end.")
    if facts.refuse_manual_start or facts.refuse_manual_stop:
        yield _boot("no-manual", f"{unit} refuses to be started or stopped by hand.")
    if facts.ignore_on_isolate:
        yield _boot("isolate", f"{unit} has IgnoreOnIsolate=yes: it is meant to live through every change.")
    if facts.standard_input.startswith("tty"):
        yield _boot("tty", f"{unit} owns a terminal.")
    if facts.type == "oneshot":
        when = Timing.NEXT_BOOT if facts.remain_after_exit else Timing.NEXT_START
        yield when, Reason("oneshot", f"{unit} is Type=oneshot: a restart would run its work again, or cut it off.")
    if facts.active_state not in _SETTLED or facts.sub_state in ("auto-restart", "auto-restart-queued"):
        yield _start("changing", f"{unit} is {facts.active_state} ({facts.sub_state}) right now.")
    if facts.job:
        yield _start("job", f"{unit} has a {facts.job} job queued.")


def _boot(code: str, sentence: str) -> tuple[Timing, Reason]:
    return Timing.NEXT_BOOT, Reason(code, sentence)


def _start(code: str, sentence: str) -> tuple[Timing, Reason]:
    return Timing.NEXT_START, Reason(code, sentence)
