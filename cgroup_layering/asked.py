# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked of new layers, whichever services they are for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cgroup_layering.config.model import Config
from cgroup_layering.model import Tracking
from cgroup_layering.naming import is_glob
from cgroup_layering.planner import Request


@dataclass(frozen=True)
class Asked:
    """The options --tracking, --layer-limits, --runtime, --ignore-path-rules and --accept-oom-policy-loss.

    None stands for what a service has already, or else for the default.
    """

    tracking: Tracking | None = None
    limits: bool | None = None
    runtime: bool = False
    ignore_path_rules: bool = False
    accepts: bool = False
    """Whether services may lose their OOMPolicy=."""

    def request(self, words: Iterable[str], folder: Path, config: Config, migration: str = "") -> Request:
        """The same of the services that `words` name, whose files go to `folder`."""
        return Request(
            tracking=self.tracking,
            limits=self.limits,
            accept_oom_policy_loss=self.accepts,
            migration=migration,
            folder=folder,
            named=frozenset(word for word in words if not is_glob(word)),
            config=config,
            ignore_path_rules=self.ignore_path_rules,
        )


def asked_of(words: Mapping[str, object]) -> Asked:
    """The same of a JSON object. Raises KeyError, TypeError or ValueError for one that is none."""
    tracking, limits = words["tracking"], words["limits"]
    if limits is not None and not isinstance(limits, bool):
        raise TypeError(limits)
    return Asked(
        tracking=None if tracking is None else Tracking(str(tracking)),
        limits=limits,
        runtime=words["runtime"] is True,
        ignore_path_rules=words.get("ignore_path_rules") is True,
        accepts=words.get("accepts") is True,
    )
