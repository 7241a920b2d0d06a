# SPDX-License-Identifier: LGPL-2.1-or-later
"""`systemctl show` of every service of the stock box, plain and layered: what differs is a documented list."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from tests.vm.fidelity.guest.kit import OPTIONS
from tests.vm.fidelity.matrix import BUILD
from tests.vm.fidelity.properties import BOTH, DIFFERENT, is_noise
from tests.vm.machine import Machine

pytestmark = pytest.mark.long
Units = dict[str, dict[str, str]]

ORDERED = (
    "systemd-journald.service",
    "systemd-udevd.service",
    "dbus.service",
    "systemd-logind.service",
    "systemd-networkd.service",
)


@dataclass
class Story:
    """What was seen after each boot, by tracking; `plain` is the first."""

    machine: Machine
    units: dict[str, Units] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    stops: list[list[str]] = field(default_factory=list)
    cycles: dict[str, str] = field(default_factory=dict)
    pairs: list[tuple[str, str]] = field(default_factory=list)


def shown(machine: Machine) -> Units:
    """The properties of every loaded service."""
    blocks = machine.ok("systemctl show --all '*.service'").split("\n\n")
    found = {}
    for block in blocks:
        properties = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        found[properties["Id"]] = properties
    return found


def stops(machine: Machine) -> list[str]:
    """The services that PID 1 stopped at the end of the boot before, in that order."""
    out = machine.ok("journalctl -q -b -1 _PID=1 -o json --output-fields=MESSAGE,UNIT,JOB_TYPE,JOB_RESULT --no-pager")
    entries = [json.loads(line) for line in out.splitlines()]
    return [
        entry["UNIT"]
        for entry in entries
        if entry.get("JOB_TYPE") == "stop" and entry.get("JOB_RESULT") and "UNIT" in entry
    ]


@pytest.fixture(scope="module")
def story(machine: Machine) -> Story:
    """Plain, then layered in each tracking, after a reboot each."""
    machine.restore()
    told = Story(machine)
    told.units["plain"] = shown(machine)
    told.pairs = ordered(machine)
    for tracking in BOTH:
        machine.tool_ok("migrate", "--yes", *OPTIONS[tracking])
        told.words[tracking] = machine.reboot()
        told.stops.append(stops(machine))
        told.units[tracking] = shown(machine)
        told.cycles[tracking] = machine.ok("journalctl -b --no-pager | grep -ci 'ordering cycle' || true")
        machine.tool_ok("rollback")
    BUILD.mkdir(exist_ok=True)
    (BUILD / f"fidelity-show-{machine.suite}.json").write_text(json.dumps(told.units))
    return told


@pytest.mark.parametrize("tracking", BOTH)
def test_only_documented_properties_differ(story: Story, tracking: str) -> None:
    """The list is exact: nothing else differs, and all that is listed does."""
    plain, layered = story.units["plain"], story.units[tracking]
    # Only what has run in its layer says anything; services that come and go by themselves are in one boot alone.
    both = [unit for unit in plain.keys() & layered.keys() if layered[unit]["Slice"].endswith(".service.slice")]
    assert len(both) > 40
    found: dict[str, str] = {}
    for unit in both:
        for name in plain[unit].keys() | layered[unit].keys():
            was, is_now = plain[unit].get(name), layered[unit].get(name)
            if was != is_now and not is_noise(name):
                found.setdefault(name, f"{unit}: {was!r} became {is_now!r}")
    wanted = {name for name, (trackings, _why) in DIFFERENT.items() if tracking in trackings}
    assert found.keys() - wanted == set(), {name: found[name] for name in found.keys() - wanted}
    known = {name for properties in plain.values() for name in properties}
    assert (wanted & known) - found.keys() == set(), "listed, and no different"


@pytest.mark.parametrize("tracking", BOTH)
def test_what_is_not_layered_is_untouched(story: Story, tracking: str) -> None:
    """Of user managers and the like no property differs at all."""
    plain, layered = story.units["plain"], story.units[tracking]
    others = [unit for unit in plain.keys() & layered.keys() if unit.startswith(("user@", "user-runtime-dir@"))]
    assert others
    for unit in others:
        names = [name for name in plain[unit] if not is_noise(name)]
        assert {name: layered[unit].get(name) for name in names} == {name: plain[unit][name] for name in names}


@pytest.mark.parametrize("tracking", BOTH)
def test_boot_keeps_its_order(story: Story, tracking: str) -> None:
    """With every service layered: healthy, no ordering cycle, and who is After= another became active after it."""
    assert story.words[tracking] == "running"
    assert story.cycles[tracking] == "0"
    units = story.units[tracking]
    assert len(story.pairs) > 2
    for later, earlier in story.pairs:
        begun = int(units[later]["InactiveExitTimestampMonotonic"])
        assert begun >= int(units[earlier]["ActiveEnterTimestampMonotonic"]) > 0, (later, earlier)


def test_shutdown_keeps_its_order(story: Story) -> None:
    """A layer must not take its service down early: the same ones are stopped by a job, after what is After= them."""
    plain, layered = story.stops
    assert set(ORDERED) & set(plain) == set(ORDERED) & set(layered)
    pairs = [pair for pair in story.pairs if set(pair) <= set(plain)]
    assert pairs
    for later, earlier in pairs:
        assert plain.index(later) < plain.index(earlier), ("plain", later, earlier)
        assert layered.index(later) < layered.index(earlier), ("layered", later, earlier)


def ordered(machine: Machine) -> list[tuple[str, str]]:
    """Pairs (later, earlier) among the services that carry the host, by After= over any number of units."""
    blocks = machine.ok("systemctl show --all -p Id -p After '*'").split("\n\n")
    after = {}
    for block in blocks:
        properties = dict(line.split("=", 1) for line in block.splitlines())
        after[properties["Id"]] = properties["After"].split()
    pairs = []
    for later in ORDERED:
        seen: set[str] = set()
        left = [later]
        while left:
            new = set(after.get(left.pop(), ())) - seen
            seen |= new
            left += new
        pairs += [(later, earlier) for earlier in ORDERED if earlier in seen and earlier != later]
    return pairs
