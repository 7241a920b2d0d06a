# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an administrator, a program or a monitoring rule sees differently."""

from __future__ import annotations

import json
from pathlib import Path

from tests.vm.fidelity.guest.kit import Behaviour, Difference, Observation, Run, nothing, sh, wait

SLEEP = "ExecStart=/usr/bin/sleep infinity\n"


def journal_fields(run: Run) -> Observation:
    """The trusted fields of a line that the service logs."""
    unit = "viewlog-@V@.service"
    look = ["journalctl", "-q", "-o", "json", "-n", "1", f"_SYSTEMD_UNIT={run.name(unit)}", "MESSAGE=said"]
    run.systemctl("start", unit)
    assert wait(lambda: sh(look).stdout, 30), f"{unit} says nothing"
    fields = json.loads(sh(look).stdout)
    run.systemctl("stop", unit)
    return {
        name: run.common(str(fields.get(name)))
        for name in ("_SYSTEMD_UNIT", "_SYSTEMD_SLICE", "_SYSTEMD_CGROUP", "_TRANSPORT", "_COMM", "SYSLOG_IDENTIFIER")
    }


def pressure(run: Run) -> Observation:
    """What a service is told about where to watch memory pressure."""
    unit = "viewpressure-@V@.service"
    run.systemctl("start", unit)
    (pid,) = run.processes(unit)
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    words = [entry for entry in entries if entry.startswith("MEMORY_PRESSURE_WATCH=")]
    path = Path(words[0].partition("=")[2]) if words else Path()
    seen: Observation = {
        "its own cgroup": path == run.cgroup(unit) / "memory.pressure",
        "there": path.exists(),
        "path": run.common(str(path)),
    }
    run.systemctl("stop", unit)
    return seen


def cgtop(run: Run) -> Observation:
    """The row of the service's cgroup, at the default depth."""
    unit = "viewtop-@V@.service"
    run.systemctl("start", unit)
    out = sh(["systemd-cgtop", "-b", "-n", "1", "--raw"]).stdout
    rows = [line.split() for line in out.splitlines() if line.split()[:1] and line.split()[0].endswith(run.name(unit))]
    run.systemctl("stop", unit)
    return {
        "row": [run.common(row[0]) for row in rows],
        "tasks": [row[1] for row in rows],
        "memory": [row[3].isdigit() for row in rows],
    }


def status(run: Run) -> Observation:
    """The labels and the tree in `systemctl status`, and what it says when the service has gone."""
    unit = "viewstatus-@V@.service"
    run.systemctl("start", unit)
    out = sh(["systemctl", "status", "--no-pager", "-n", "0", run.name(unit)]).stdout
    labels = [line.split(":")[0].strip() for line in out.splitlines() if ":" in line and "─" not in line]
    cgroup = next(line.split(":")[1].strip() for line in out.splitlines() if "CGroup:" in line)
    run.systemctl("stop", unit)
    stopped = sh(["systemctl", "status", "--no-pager", "-n", "0", run.name(unit)], check=False).returncode
    return {"labels": labels, "cgroup": run.common(cgroup), "stopped": stopped}


PATHS = "The path of the cgroup has the layer in it."
prepare = begin = nothing
BEHAVIOURS = [
    Behaviour(
        "Fields of the journal",
        {"viewlog-@V@.service": "[Service]\nExecStart=/bin/bash -c 'echo said; while :; do sleep 3600; done'\n"},
        journal_fields,
        {"_SYSTEMD_SLICE": "system.slice", "_SYSTEMD_CGROUP": "/system.slice/viewlog-V.service"},
        differs={
            tracking: Difference(
                frozenset({"_SYSTEMD_SLICE", "_SYSTEMD_CGROUP"}),
                "_SYSTEMD_SLICE is the layer, _SYSTEMD_CGROUP has it in its path; `journalctl -u` finds all the same.",
            )
            for tracking in ("instance", "service")
        },
    ),
    Behaviour(
        "MEMORY_PRESSURE_WATCH",
        {"viewpressure-@V@.service": f"[Service]\nType=exec\n{SLEEP}"},
        pressure,
        {"its own cgroup": True, "there": True},
        differs={
            tracking: Difference(frozenset({"path"}), PATHS + " It is still the service's own, and is there.")
            for tracking in ("instance", "service")
        },
        since=254,
    ),
    Behaviour(
        "systemd-cgtop",
        {"viewtop-@V@.service": f"[Service]\n{SLEEP}"},
        cgtop,
        {"row": ["system.slice/viewtop-V.service"], "memory": [True]},
        differs={
            "instance": Difference(frozenset({"row"}), PATHS + " It is shown at the default depth, with its memory."),
            "service": Difference(
                frozenset({"row", "memory"}), PATHS + " The service's row has no memory; the layer's has."
            ),
        },
    ),
    Behaviour(
        "systemctl status",
        {"viewstatus-@V@.service": f"[Service]\n{SLEEP}"},
        status,
        {"cgroup": "/system.slice/viewstatus-V.service", "stopped": 3},
        differs={
            "instance": Difference(
                frozenset({"labels", "cgroup"}), "The CGroup line has the layer in it, and Drop-In names our file."
            ),
            "service": Difference(
                frozenset({"labels", "cgroup"}),
                "The CGroup line has the layer in it, Drop-In names our file, and there is no Memory line.",
            ),
        },
    ),
]
