# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run groups of behaviours in the guest, three times each: run.py GROUP,GROUP... [WORD...].

With words only behaviours whose names have one of them run. Each line of standard output is a JSON document: what
the host is, then one for every run of every behaviour.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.vm.fidelity.guest.kit import OPTIONS, RUNS, TRACKINGS, Behaviour, Run, named, sh, version

UNITS = Path("/etc/systemd/system")
BEGIN = time.monotonic()


def main() -> int:
    """The behaviours' observations; a run that went wrong has its traceback instead."""
    groups = {word: importlib.import_module(f"tests.vm.fidelity.guest.{word}") for word in sys.argv[1].split(",")}
    release = version()
    _say({"systemd": release, "kernel": sh("uname -r").stdout.strip()})
    chosen: dict[str, list[Behaviour]] = {}
    broken: dict[str, str] = {}
    for word, group in groups.items():
        broken[word] = _failure(group.prepare)
        chosen[word] = []
        for behaviour in group.BEHAVIOURS:
            if sys.argv[2:] and not any(part in behaviour.name for part in sys.argv[2:]):
                continue
            reason = behaviour.missing(release)
            _say({"group": word, "name": behaviour.name, "missing": reason})
            if not reason:
                chosen[word].append(behaviour)
    # One call for all: starting our program is what costs most.
    _make([behaviour for behaviours in chosen.values() for behaviour in behaviours])
    for word, behaviours in chosen.items():
        broken[word] = broken[word] or _failure(groups[word].begin)
        for behaviour in behaviours:
            for run in RUNS:
                if run != "service" or not behaviour.only_instance:
                    seen = {"error": broken[word]} if broken[word] else _observe(behaviour, run)
                    _say({"group": word, "name": behaviour.name, "run": run, "seen": seen})
    return 0


def _say(document: dict[str, Any]) -> None:
    what = " ".join(str(document[key]) for key in ("group", "name", "run") if key in document)
    print(f"[{time.monotonic() - BEGIN:4.0f} s] {what}", file=sys.stderr, flush=True)
    print(json.dumps(document), flush=True)


def _make(behaviours: list[Behaviour]) -> None:
    layered: dict[str, list[str]] = {tracking: [] for tracking in TRACKINGS}
    for behaviour in behaviours:
        for run in RUNS:
            if run == "service" and behaviour.only_instance:
                continue
            for name, text in behaviour.files.items():
                file = Path(named(name, run)) if name.startswith("/") else UNITS / named(name, run)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(named(text, run))
            if run in layered:
                layered[run] += behaviour.services(run)
    sh("systemctl daemon-reload")
    for tracking, units in layered.items():
        if units:
            sh(["cgroup-layering", "enable", *OPTIONS[tracking], *units], seconds=900)


def _failure(step: Callable[[], None]) -> str:
    """What went wrong in a step that a whole group needs, or nothing: the other groups are wanted all the same."""
    try:
        step()
    except Exception:
        return traceback.format_exc()
    return ""


def _observe(behaviour: Behaviour, run: str) -> dict[str, Any]:
    try:
        return behaviour.observe(Run(run))
    except Exception:  # the others' observations are wanted all the same
        return {"error": traceback.format_exc()}


sys.exit(main())
