# SPDX-License-Identifier: LGPL-2.1-or-later
"""The bpf maps of a declaration: made and pinned through bpftool(8), so that whoever runs this is charged."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from cgroup_layering.holding.model import BpfMapSpec, Hold
from cgroup_layering.holding.state import Report
from cgroup_layering.kernel.bpf import BpfUnavailable, bpftool

_NAME_LENGTH = 15


def make(hold: Hold, report: Report) -> None:
    """Make the maps that are missing; one that is there with other parameters is a problem and stays as it is."""
    for spec in hold.maps:
        try:
            if not os.path.lexists(spec.pin):
                _create(spec)
            elif found := differing(spec):
                report.problems.append(f"{spec.pin} is there already with {found}; it is left as it is.")
        except (BpfUnavailable, OSError, LookupError) as error:
            reason = error.reason if isinstance(error, BpfUnavailable) else str(error)
            report.problems.append(f"{spec.pin} could not be made: {reason.rstrip('.')}.")


def _create(spec: BpfMapSpec) -> None:
    folder = Path(spec.pin).parent
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = folder / f"cgroup-layering-{os.getpid()}"
    words = ["type", spec.type, "key", str(spec.key), "value", str(spec.value), "entries", str(spec.entries)]
    name = Path(spec.pin).name.replace("-", "_")[:_NAME_LENGTH]
    try:
        bpftool("map", "create", str(draft), *words, "name", name, "flags", str(spec.flags))
        user, _, group = spec.owner.partition(":")
        if user:
            shutil.chown(draft, user, group or None)
        draft.chmod(int(spec.mode, 8))
        # Unlike a rename, a link fails where the name was taken meanwhile.
        Path(spec.pin).hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)


def differing(spec: BpfMapSpec) -> str:
    """How a pinned map differs from what is declared, as words; empty if it does not. Raises BpfUnavailable."""
    try:
        shown = json.loads(bpftool("map", "show", "pinned", spec.pin))
    except ValueError as error:
        raise BpfUnavailable("`bpftool map show` printed what is no JSON") from error
    wanted = {
        "type": spec.type,
        "bytes_key": spec.key,
        "bytes_value": spec.value,
        "max_entries": spec.entries,
        "flags": spec.flags,
    }
    words = {"bytes_key": "key", "bytes_value": "value", "max_entries": "entries"}
    other = [
        f"{words.get(key, key)} {shown.get(key)} instead of {value}"
        for key, value in wanted.items()
        if shown.get(key) != value
    ]
    return ", ".join(other)
