# SPDX-License-Identifier: LGPL-2.1-or-later
"""The administrator's configuration: /usr/lib/cgroup-layering/*.toml, and /etc/cgroup-layering/*.toml over it.

Files are read in the order of their names, a later one wins key by key; one in /etc hides that of the same name in
/usr/lib, as systemd does it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cgroup_layering.config.file import merge
from cgroup_layering.config.model import Config, ConfigError
from cgroup_layering.holding.declared import BadHold, check_apart
from cgroup_layering.holding.locating import line_of
from cgroup_layering.holding.model import Hold, Holds
from cgroup_layering.store import Store

FOLDERS = (Path("/usr/lib/cgroup-layering"), Path("/etc/cgroup-layering"))
SUFFIX = ".toml"


def declared(store: Store) -> Holds | None:
    """The persistent resources that are declared; None, which leaves them as they are, if that can not be read."""
    try:
        return load(store).holds
    except ConfigError:
        return None


def load(store: Store) -> Config:
    """Read all configuration files below the store's root. Raises ConfigError, StoreError."""
    chosen: dict[str, Path] = {}
    for folder in FOLDERS:
        chosen.update((name, folder / name) for name in store.names(folder) if name.endswith(SUFFIX))
    config = Config()
    for _, path in sorted(chosen.items()):
        text = store.read(path)
        if text is not None:
            config = merge(config, text, path, store)
    return apart(config)


def apart(config: Config) -> Config:
    """`config` without resources that are another's already; after all files, as a later one can change an owner's."""
    holds = config.holds
    before: list[Hold] = []
    for owner, hold in config.holds.good.items():
        try:
            check_apart(hold, before)
        except BadHold as error:
            path, lines = config.homes[owner]
            holds = holds.over(owner, str(ConfigError(path, line_of(lines, owner, error.keys), error.reason)))
        else:
            before.append(hold)
    return replace(config, holds=holds)
