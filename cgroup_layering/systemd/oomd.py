# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where systemd-oomd chooses among the services below a slice."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from cgroup_layering.naming import ROOT_SLICE
from cgroup_layering.systemd.live import family
from cgroup_layering.systemd.manager import SLICE, Manager
from cgroup_layering.unitfile import UnitFileError, read

FOLDERS = tuple(Path(top) / "systemd/oomd/rules.d" for top in ("/etc", "/run", "/usr/local/lib", "/usr/lib"))
"""Of rule sets, the first that has a name wins."""
ALL = "kill-all"
"""The action that ends whatever is below the slice; the others choose."""
_KEYS = ("ManagedOOMSwap", "ManagedOOMMemoryPressure")


def kill_slices(manager: Manager, parents: Iterable[str], root: Path = Path("/")) -> dict[str, str]:
    """Slices among `parents` and above that have systemd-oomd choose below them: slice to the setting that says so."""
    above = family([*parents, ROOT_SLICE])
    props = manager.properties(above, SLICE, (*_KEYS, "OOMRules"))
    found = {}
    for name in above:
        kill = [f"{key}=kill" for key in _KEYS if props[name].get(key) == "kill"]
        rules = props[name].get("OOMRules")
        chosen = [f"OOMRules={rule}" for rule in rules if chooses(rule, root)] if isinstance(rules, list) else []
        if kill or chosen:
            found[name] = (kill + chosen)[0]
    return found


def chooses(rule: str, root: Path) -> bool:
    """Whether a rule set chooses a victim; one that can't be read may."""
    for folder in FOLDERS:
        path = root / folder.relative_to("/") / f"{rule}.oomrule"
        if os.path.lexists(path):
            try:
                action = read([path]).last("Rule", "Action")
            except UnitFileError:
                action = None
            return action != ALL
    return True
