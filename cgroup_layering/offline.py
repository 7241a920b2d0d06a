# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a service's files say about it when no manager can be asked (images), and the parent slice they ask for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from cgroup_layering.errors import HostUnsuitable
from cgroup_layering.model import ServiceFacts
from cgroup_layering.naming import (
    default_slice,
    instance_of,
    is_service_name,
    is_slice_name,
    is_template,
    prefix_of,
    template_of,
    unescape,
)
from cgroup_layering.unitfile import Setting, UnitFiles, resolve

_TRUE = frozenset(("1", "yes", "y", "true", "t", "on"))
_SHARED_LIBRARY = re.compile(r"libsystemd-shared-(\d+)[^/]*\.so")


def is_true(value: str | None, default: bool = False) -> bool:
    """A boolean of a unit file (src/basic/parse-util.c, `parse_boolean`)."""
    return default if value is None else value.lower() in _TRUE


def specifiers(unit: str) -> dict[str, str]:
    """The specifiers that follow from a unit's name alone (systemd.unit(5), "Specifiers")."""
    prefix, instance = prefix_of(unit), instance_of(unit) or ""
    final = prefix.rpartition("-")[2]
    values = {"n": unit, "N": unit.removesuffix(".service"), "p": prefix, "i": instance, "j": final, "%": "%"}
    for letter, escaped in (("P", prefix), ("I", instance), ("J", final)):
        try:
            values[letter] = unescape(escaped)
        except ValueError:
            continue
    return values


def parent_slice(unit: str, files: UnitFiles) -> str:
    """The service's own slice as its files ask for it; a value that systemd ignores leaves the one before."""
    chosen = default_slice(unit)
    for setting in files.settings:
        if setting.section == "Service" and setting.key == "Slice":
            value = resolve(setting.value, specifiers(unit))
            if value is not None and is_slice_name(value):
                chosen = value
    return chosen


def service_facts(unit: str, names: Sequence[str], chain: Iterable[tuple[Path, tuple[Setting, ...]]]) -> ServiceFacts:
    """What the files say; `chain` is the fragment and its drop-ins with their assignments, in order."""
    chain = tuple(chain)
    files = UnitFiles(tuple(setting for _, settings in chain for setting in settings), tuple(path for path, _ in chain))
    delegate = files.last("Service", "Delegate") or ""
    delegated = is_true(delegate) or (bool(delegate) and delegate.lower() not in ("no", "false", "0", "off", "n", "f"))
    controllers = {"cpu", "cpuset", "io", "memory", "pids"} if is_true(delegate) else set(delegate.split())
    kind = files.last("Service", "Type") or (
        "dbus" if files.has("Service", "BusName") else "simple" if files.has("Service", "ExecStart") else "oneshot"
    )
    return ServiceFacts(
        unit=unit,
        names=tuple(names) or (unit,),
        load_state="loaded",
        files=files,
        type=kind,
        remain_after_exit=is_true(files.last("Service", "RemainAfterExit")),
        kill_mode=files.last("Service", "KillMode") or "control-group",
        send_sigkill=is_true(files.last("Service", "SendSIGKILL"), True),
        delegate=delegated,
        delegate_controllers=frozenset(controllers if delegated else ()),
        standard_input=files.last("Service", "StandardInput") or "null",
        tty_path=files.last("Service", "TTYPath") or "",
        oom_policy=files.last("Service", "OOMPolicy") or ("continue" if delegated else "stop"),
        default_dependencies=is_true(files.last("Unit", "DefaultDependencies"), True),
        refuse_manual_start=is_true(files.last("Unit", "RefuseManualStart")),
        refuse_manual_stop=is_true(files.last("Unit", "RefuseManualStop")),
        ignore_on_isolate=is_true(files.last("Unit", "IgnoreOnIsolate")),
        survive_final_kill=is_true(files.last("Unit", "SurviveFinalKillSignal")),
    )


def aliases_of(names: Iterable[str], dirs: Iterable[Path]) -> dict[str, str]:
    """Names that are links to another unit: alias to primary name (systemd.unit(5), "alias")."""
    found: dict[str, str] = {}
    for name in names:
        for folder in dirs:
            path = folder / name
            if path.is_symlink():
                target = path.readlink().name
                instance_link = template_of(name) == target
                if is_service_name(target) and target != name and not instance_link:
                    found[name] = target
                break
            if path.exists():
                break
    return {alias: _follow(alias, found) for alias in found}


def _follow(name: str, links: dict[str, str]) -> str:
    for _ in range(32):
        if name not in links:
            break
        name = links[name]
    return name


def enabled_instances(dirs: Iterable[Path]) -> set[str]:
    """Instances of templates that are enabled: links in `.wants` and `.requires` folders."""
    found: set[str] = set()
    for folder in dirs:
        for entry in os.scandir(folder):
            if entry.name.endswith((".wants", ".requires")) and entry.is_dir():
                names = os.listdir(entry.path)
                found.update(name for name in names if is_service_name(name) and instance_of(name))
    return {name for name in found if not is_template(name)}


def installed_version(root: Path) -> int:
    """The major version of the systemd that is installed below `root`, from its shared library's name."""
    for folder in ("usr/lib", "lib"):
        for pattern in ("*/systemd/libsystemd-shared-*.so", "systemd/libsystemd-shared-*.so"):
            for path in sorted((root / folder).glob(pattern)):
                match = _SHARED_LIBRARY.fullmatch(path.name)
                if match:
                    return int(match[1])
    raise HostUnsuitable(f"There is no systemd below {root}.", "Is it the root of an installed system?")
