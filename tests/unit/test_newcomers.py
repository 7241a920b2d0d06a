# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which services are new on a host, and for how long they are news."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cgroup_layering.config.model import Config
from cgroup_layering.lifetime.newcomers import Settled, newcomers
from cgroup_layering.systemd.manager import UnitFileRow, UnitRow

ETC = Path("/etc/systemd/system")


FILES = [
    UnitFileRow(ETC / name, state)
    for name, state in (
        ("a.service", "enabled"), ("b.service", "static"), ("masked.service", "masked"), ("t@.service", "indirect"),
        ("run-u1.service", "transient"), ("other-name.service", "alias"), ("layered.service", "enabled"),
        ("shut.service", "disabled"),
    )
]  # fmt: skip


LOADED = [
    UnitRow("t@1.service", "loaded", "active", "running"),
    UnitRow("t@2.service", "not-found", "inactive", "dead"),
]


def test_newcomers_are_plain_and_wanted() -> None:
    config = replace(Config(), auto=True, autos=(("shut*", False),))
    assert newcomers(FILES, LOADED, {"layered.service"}, config) == {"a.service", "b.service", "t@1.service"}
    assert newcomers(FILES, LOADED, (), Config()) == frozenset()
    some = replace(Config(), autos=(("sh*", True),))
    assert newcomers(FILES, LOADED, (), some) == {"shut.service"}


def test_what_a_run_left_plain_is_no_news_until_its_file_changes() -> None:
    settled, found = Settled(), {"a.service", "t@1.service"}
    assert settled.left(found) == found
    settled.begin()
    settled.end(found)
    assert settled.left({*found, "t@2.service"}) == set()
    settled.changed("a.service.d")
    settled.changed("t@.service")
    assert settled.left(found) == found
    settled.begin()
    settled.changed("a.service")
    settled.end(found)
    assert settled.left(found) == {"a.service"}, "it changed while the run was at work"
    settled.begin()
    settled.end({"b.service"})
    settled.end({"b.service", "a.service"})
    assert settled.left(found) == set(), "templates stay known: connections come and go"


def test_names_that_are_no_services_are_not_minded() -> None:
    settled = Settled()
    settled.begin()
    settled.end({"a.service"})
    for name in ("", "a.slice", "service.d", "multi-user.target.wants", "system-a.service.slice", ".#a.service"):
        settled.changed(name)
    assert settled.knows("a.service")
