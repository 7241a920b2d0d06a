# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much is read for a migration: all of every service only where it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from cgroup_layering.asked import Asked
from cgroup_layering.cli.deciding import decide
from cgroup_layering.cli.session import Session
from cgroup_layering.host import Settings
from cgroup_layering.model import Host, Tracking
from cgroup_layering.store import Store
from cgroup_layering.unitpaths import ETC
from tests.layerings import MIGRATION, facts, host


class Reads:
    """As much of a session as is needed: it notes how the host is read."""

    online = True
    folder = ETC

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.how: list[Settings] = []

    def new_migration(self) -> str:
        return MIGRATION

    def read(self, words: object, path_rules: bool, settings: Settings) -> Host:
        self.how.append(settings)
        return host(facts("OOMPolicy=continue"))


@pytest.mark.parametrize(
    ("tracking", "now", "how"),
    [
        (Tracking.INSTANCE, False, [Settings.DOUBTFUL]),
        (Tracking.SERVICE, False, [Settings.DOUBTFUL, Settings.PLAIN]),
        (Tracking.INSTANCE, True, [Settings.PLAIN]),
    ],
)
def test_all_settings_are_read_where_something_takes_them_over(
    tmp_path: Path, tracking: Tracking, now: bool, how: list[Settings]
) -> None:
    session: Any = Reads(tmp_path)
    _, _, found = decide(cast(Session, session), (), Asked(tracking=tracking), now)
    assert [service.layering and service.layering.tracking for service in found.changes] == [tracking]
    assert session.how == how
