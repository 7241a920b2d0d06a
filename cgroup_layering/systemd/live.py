# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the running manager knows of services, asked in as few calls as possible."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from cgroup_layering.domains.naming import domain_name
from cgroup_layering.effective.settings import PROPERTIES
from cgroup_layering.model import Reason, ServiceFacts
from cgroup_layering.naming import ancestors, is_template, split_layer, template_of
from cgroup_layering.restarting import PROPAGATES
from cgroup_layering.systemd.manager import SERVICE, SLICE, SOCKET, UNIT, Manager, UnitRow
from cgroup_layering.telling import LEANS

_UNIT_NAMES = (
    "Names",
    "LoadState",
    "ActiveState",
    "SubState",
    "FragmentPath",
    "UnitFileState",
    "DefaultDependencies",
    "RefuseManualStart",
    "RefuseManualStop",
    "IgnoreOnIsolate",
    "SurviveFinalKillSignal",
    "Transient",
    "NeedDaemonReload",
    *PROPAGATES,
)
_SERVICE_NAMES = (
    "Slice",
    "ControlGroup",
    "Type",
    "RemainAfterExit",
    "KillMode",
    "SendSIGKILL",
    "Delegate",
    "DelegateControllers",
    "OOMPolicy",
    "StandardInput",
    "TTYPath",
)
_ABSENT = ("not-found", "error", "bad-setting", "masked")
_NO_LIMIT = frozenset((2**32 - 1, 2**64 - 1))


@dataclass(frozen=True, slots=True)
class LiveState:
    """One service as the manager has it."""

    unit: str
    names: tuple[str, ...]
    load_state: str
    fragment: Path | None = None
    job: str = ""
    accept_socket: str = ""
    unit_props: dict[str, object] = field(default_factory=dict)
    service_props: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LiveServices:
    """The services that were asked for, by primary name, and the aliases that lead to them."""

    services: dict[str, LiveState]
    aliases: dict[str, str]

    def found(self, word: str) -> LiveState | None:
        """The service or alias of that name; None where it is not installed."""
        state = self.services.get(word)
        return None if state is None or state.load_state == "not-found" else state


def services(
    manager: Manager,
    names: list[str],
    globs: list[str],
    installed: Callable[[str], list[str]],
    settings: Callable[[str], bool] = lambda _unit: True,
    unasked: Callable[[Iterable[UnitRow]], Mapping[str, frozenset[str]]] = lambda _rows: {},
) -> LiveServices:
    """The named services and those that match; all installed and loaded ones if nothing is named.

    `installed` tells the names of unit files that match a glob: systemd would look into each of them to answer that.
    `settings` says of which services the resource-control properties are needed; turning them into Python costs more
    than all others together. `unasked` tells of which services nothing has to be asked, and whom those lean on.
    """
    rows: dict[str, UnitRow] = {}
    aliases: dict[str, str] = {}
    templates: set[str] = {name for name in names if is_template(name)}
    wanted = [name for name in names if not is_template(name)]
    if templates:
        templates &= set(installed("*@.service"))
    for glob in globs or ([] if names else ["*"]):
        pattern = glob if glob.endswith(".service") else f"{glob}.service"
        rows.update((row.name, row) for row in manager.units(pattern) if row.load_state != "not-found")
        files = installed(pattern)
        templates.update(name for name in files if is_template(name))
        wanted += [name for name in files if not is_template(name) and name not in rows]
    for start in range(0, len(wanted), 200):
        batch = wanted[start : start + 200]
        for asked, row in zip(batch, manager.load(batch), strict=True):
            if asked == row.name:
                rows[row.name] = row
            else:
                aliases[asked] = row.name
    return _collect(manager, rows, aliases, templates, settings, unasked(rows.values()))


def _collect(
    manager: Manager,
    rows: dict[str, UnitRow],
    aliases: dict[str, str],
    templates: set[str],
    settings: Callable[[str], bool],
    unasked: Mapping[str, frozenset[str]],
) -> LiveServices:
    shown = tuple(aliases)
    # Only instances of templates can serve a socket's single connections.
    used = {template for name in rows if (template := template_of(name)) is not None}
    accepting = accept_templates(manager, used) if used else {}
    unit_props = _ask(manager, rows, unasked)
    sound = [name for name in unit_props if rows[name].load_state not in _ABSENT]
    whole = {name for name in sound if settings(name)}
    service_props = manager.properties(whole, SERVICE, (*_SERVICE_NAMES, *PROPERTIES))
    service_props |= manager.properties([name for name in sound if name not in whole], SERVICE, _SERVICE_NAMES)
    found: dict[str, LiveState] = {}
    for name, row in rows.items():
        props = unit_props.get(name, {"ActiveState": row.active_state, "SubState": row.sub_state})
        names = tuple(sorted(cast(list[str], props.get("Names", [name])), key=lambda other: (other != name, other)))
        aliases.update((other, name) for other in names if other != name)
        fragment = str(props.get("FragmentPath") or "")
        found[name] = LiveState(
            unit=name,
            names=names,
            load_state=row.load_state,
            fragment=Path(fragment) if fragment else None,
            job=row.job,
            accept_socket=accepting.get(template_of(name) or "", ""),
            unit_props=props,
            service_props=service_props.get(name, {}),
        )
    for name in templates:
        found[name] = LiveState(name, (name,), "template")
    for name in shown:
        found.setdefault(name, LiveState(name, (name,), "alias"))
    return LiveServices(dict(sorted(found.items())), aliases)


def _ask(manager: Manager, rows: Iterable[str], unasked: Mapping[str, frozenset[str]]) -> dict[str, dict[str, object]]:
    """What systemd says of units; also of those whose restart another one follows, whose own files don't tell that."""
    names = (*_UNIT_NAMES, *(LEANS if unasked else ()))
    props = manager.properties([name for name in rows if name not in unasked], UNIT, names)
    leaned: set[str] = set().union(*unasked.values())
    for known in props.values():
        leaned.update(other for key in LEANS for other in cast(list[str], known.get(key, ())))
    return props | manager.properties([name for name in unasked if name in leaned], UNIT, names)


def merge(facts: ServiceFacts, state: LiveState) -> ServiceFacts:
    """The facts of the files, completed and corrected by what the manager says."""
    unit, service = state.unit_props, state.service_props
    facts = replace(
        facts,
        names=state.names,
        load_state=state.load_state,
        unit_file_state=str(unit.get("UnitFileState", "")),
        active_state=str(unit.get("ActiveState", "inactive")),
        sub_state=str(unit.get("SubState", "dead")),
        transient=bool(unit.get("Transient")),
        need_daemon_reload=bool(unit.get("NeedDaemonReload")),
        job=state.job,
        accept_socket=state.accept_socket,
        propagates=tuple(sorted({other for key in PROPAGATES for other in cast(list[str], unit.get(key, []))})),
    )
    if not service:
        return facts
    facts = replace(
        facts,
        slice=str(service["Slice"]),
        control_group=str(service["ControlGroup"]),
        type=str(service["Type"]),
        remain_after_exit=bool(service["RemainAfterExit"]),
        kill_mode=str(service["KillMode"]),
        send_sigkill=bool(service["SendSIGKILL"]),
        delegate=bool(service["Delegate"]),
        delegate_controllers=frozenset(cast(list[str], service["DelegateControllers"])),
        oom_policy=str(service["OOMPolicy"]),
        standard_input=str(service["StandardInput"]),
        tty_path=str(service["TTYPath"]),
        default_dependencies=bool(unit["DefaultDependencies"]),
        refuse_manual_start=bool(unit["RefuseManualStart"]),
        refuse_manual_stop=bool(unit["RefuseManualStop"]),
        ignore_on_isolate=bool(unit["IgnoreOnIsolate"]),
        survive_final_kill=bool(unit.get("SurviveFinalKillSignal")),
        settings={name: service[name] for name in PROPERTIES if name in service},
    )
    # A drop-in of ours whose slice file has gone puts it into its layer still: that is no riddle, and can be mended.
    named = split_layer(facts.slice)
    layered = named is not None and named[0] == facts.unit and (named[1] == facts.parent or bool(domain_name(named[1])))
    unclear = facts.own is None and facts.slice and facts.slice != facts.parent and not layered
    if unclear and facts.obstacle is None and not facts.transient:
        reason = Reason(
            "slice-unclear",
            f"{facts.unit} cannot be layered: its files put it into {facts.parent}, but systemd has it in "
            f"{facts.slice}. Run `systemctl daemon-reload`, then look at `systemctl cat {facts.unit}`.",
        )
        return replace(facts, obstacle=reason)
    return facts


def accept_templates(manager: Manager, templates: Container[str]) -> dict[str, str]:
    """Those of `templates` that loaded Accept=yes sockets start per connection: template to socket."""
    serves = {
        row.name: f"{row.name.removesuffix('.socket').partition('@')[0]}@.service"
        for row in manager.units("*.socket")
        if row.load_state == "loaded"
    }
    sockets = [name for name, template in serves.items() if template in templates]
    props = manager.properties(sockets, SOCKET, ("Accept",))
    return {serves[name]: name for name in sockets if props[name].get("Accept")}


def family(parents: Iterable[str]) -> list[str]:
    """The slices and those above them, each once."""
    found: dict[str, None] = {}
    for parent in parents:
        found.update(dict.fromkeys((parent, *ancestors(parent))))
    return list(found)


def concurrency_slices(manager: Manager, parents: Iterable[str], version: int) -> frozenset[str]:
    """Slices among `parents` and above with a concurrency limit (258 and later): a layer would count as a unit."""
    if version < 258:
        return frozenset()
    keys = ("ConcurrencyHardMax", "ConcurrencySoftMax", "ActivatingConcurrencyMax")
    above = family(parents)
    props = manager.properties(above, SLICE, keys)
    return frozenset(name for name in above if any(value not in _NO_LIMIT for value in props[name].values()))


def caller_units(proc: Path = Path("/proc")) -> frozenset[str]:
    """Services that this process or one of its ancestors runs in: restarting them would end us."""
    found: set[str] = set()
    pid = os.getpid()
    while pid > 1:
        try:
            group = (proc / str(pid) / "cgroup").read_text()
            status = (proc / str(pid) / "stat").read_text()
        except OSError:
            break
        unified = next((line[3:] for line in group.splitlines() if line.startswith("0::")), "")
        found.update(part for part in unified.split("/") if part.endswith(".service"))
        pid = int(status.rpartition(")")[2].split()[1])
    return frozenset(found)
