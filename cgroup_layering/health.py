# SPDX-License-Identifier: LGPL-2.1-or-later
"""Is a service that was restarted well? It stays up as the same instance, and the administrator's command agrees."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping

from cgroup_layering.moving import states
from cgroup_layering.restarting import Gate
from cgroup_layering.systemd.manager import UNIT, Manager

COMMAND_SECONDS = 60.0
"""How long the command may take for one service."""


def invocations(manager: Manager, units: Iterable[str]) -> dict[str, object]:
    """The id of each unit's instance (InvocationID), as bytes; what has none is another than any."""
    props = manager.properties(units, UNIT, ("InvocationID",))
    return {unit: values.get("InvocationID") for unit, values in props.items()}


def unhealthy(
    manager: Manager,
    units: Iterable[str],
    gate: Gate,
    sleep: Callable[[float], object] = time.sleep,
) -> Mapping[str, str]:
    """Those of `units` that are not well `gate.health_seconds` after now, and why, as the end of a sentence."""
    units = tuple(units)
    if not units or not (gate.health_seconds or gate.health_command):
        return {}
    before = invocations(manager, units)
    if gate.health_seconds:
        sleep(gate.health_seconds)
    after, now = invocations(manager, units), states(manager, units)
    found = {}
    for unit in units:
        if not now[unit].up:
            found[unit] = f"was {now[unit].active_state} (result {now[unit].result}) after {gate.health_seconds:g} s"
        elif after[unit] != before[unit]:
            found[unit] = f"was restarted again within {gate.health_seconds:g} s"
        elif gate.health_command:
            why = _run(gate.health_command, unit)
            if why:
                found[unit] = why
    return found


def _run(command: tuple[str, ...], unit: str) -> str:
    """Why the command says that a unit is not well, or an empty string. No shell is involved."""
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"UNIT": unit},
            timeout=COMMAND_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"was not found well by {command[0]} within {COMMAND_SECONDS:g} s"
    except OSError as error:
        return f"could not be looked at: {command[0]}: {error.strerror}"
    return f"was not found well by {command[0]} (exit code {done.returncode})" if done.returncode else ""
