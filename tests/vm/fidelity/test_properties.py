# SPDX-License-Identifier: LGPL-2.1-or-later
"""`systemctl show` of every service of the stock box, plain and layered: what differs is a documented list."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from tests.vm.fidelity.guest.kit import OPTIONS
from tests.vm.fidelity.matrix import BUILD
from tests.vm.fidelity.properties import BOTH, DIFFERENT, compared, settled
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
    """What was seen after each boot, by tracking; `plain` and `again` are two plain ones."""

    machine: Machine
    units: dict[str, Units] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    stops: dict[str, list[str]] = field(default_factory=dict)
    cycles: dict[str, str] = field(default_factory=dict)
    after: dict[str, list[str]] = field(default_factory=dict)


def shown(machine: Machine) -> Units:
    """The properties of every loaded service."""
    blocks = machine.ok("systemctl show --all '*.service'").split("\n\n")
    found = {}
    for block in blocks:
        properties = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        found[properties["Id"]] = {name: settled(name, value) for name, value in properties.items()}
    return found


def stops(machine: Machine) -> list[str]:
    """The units that PID 1 stopped at the end of the boot before, in that order."""
    out = machine.ok("journalctl -q -b -1 _PID=1 -o json --output-fields=MESSAGE,UNIT,JOB_TYPE,JOB_RESULT --no-pager")
    entries = [json.loads(line) for line in out.splitlines()]
    return [
        entry["UNIT"]
        for entry in entries
        if entry.get("JOB_TYPE") == "stop" and entry.get("JOB_RESULT") and "UNIT" in entry
    ]


@pytest.fixture(scope="module")
def story(machine: Machine) -> Story:
    """Plain twice, then layered in each tracking, after a reboot each."""
    machine.restore()
    told = Story(machine)
    told.units["again"] = shown(machine)
    machine.reboot()
    told.stops["plain"] = stops(machine)
    told.units["plain"] = shown(machine)
    told.after = after(machine)
    for tracking in BOTH:
        machine.tool_ok("migrate", "--yes", *OPTIONS[tracking])
        told.words[tracking] = machine.reboot()
        # Services that no migration restarts are plain in the boot that ends now; in the next one all are layered.
        told.stops["layered"] = stops(machine)
        told.units[tracking] = shown(machine)
        told.cycles[tracking] = machine.ok("journalctl -b --no-pager | grep -ci 'ordering cycle' || true")
        machine.tool_ok("rollback")
        _keep(told)
    return told


def _keep(told: Story) -> None:
    """What was seen, for whoever looks for the reason of a failure."""
    BUILD.mkdir(exist_ok=True)
    (BUILD / f"fidelity-show-{told.machine.suite}.json").write_text(json.dumps(told.units))


@pytest.mark.parametrize("tracking", BOTH)
def test_only_documented_properties_differ(story: Story, tracking: str) -> None:
    """The list is exact: nothing else differs, and all that is listed does."""
    plain, layered = story.units["plain"], story.units[tracking]
    # Only what has run in its layer says anything; services that come and go by themselves are in one boot alone.
    both = [unit for unit in plain.keys() & layered.keys() if layered[unit]["Slice"].endswith(".service.slice")]
    assert len(both) > 40
    gone = plain.keys() ^ layered.keys()
    found: dict[str, str] = {}
    for unit in both:
        for name, (was, now) in compared(plain[unit], layered[unit], gone).items():
            found.setdefault(name, f"{unit}: {was!r} became {now!r}")
    wanted = {name for name, (trackings, _why) in DIFFERENT.items() if tracking in trackings}
    assert found.keys() - wanted == set(), {name: found[name] for name in found.keys() - wanted}
    # A release may lack a property, or its kernel the figure.
    known = {name for unit in both for name, value in plain[unit].items() if value not in ("", "[not set]")}
    assert (wanted & known) - found.keys() == set(), "listed, and no different"


def test_only_noise_differs_between_two_plain_boots(story: Story) -> None:
    """What is left out of the comparison is what differs of itself, and the rest is the same in any two boots."""
    plain, again = story.units["plain"], story.units["again"]
    both = {
        unit: compared(plain[unit], again[unit], plain.keys() ^ again.keys()) for unit in plain.keys() & again.keys()
    }
    assert len(both) > 40
    assert {unit: different for unit, different in both.items() if different} == {}


@pytest.mark.parametrize("tracking", BOTH)
def test_what_is_not_layered_is_untouched(story: Story, tracking: str) -> None:
    """Of user managers and the like no property differs at all."""
    plain, layered = story.units["plain"], story.units[tracking]
    others = [unit for unit in plain.keys() & layered.keys() if unit.startswith(("user@", "user-runtime-dir@"))]
    assert others
    for unit in others:
        assert compared(plain[unit], layered[unit], plain.keys() ^ layered.keys()) == {}


@pytest.mark.parametrize("tracking", BOTH)
def test_boot_keeps_its_order(story: Story, tracking: str) -> None:
    """With every service layered: healthy, no ordering cycle, and who is After= another became active after it."""
    assert story.words[tracking] == "running"
    assert story.cycles[tracking] == "0"
    units = story.units[tracking]
    pairs = ordered(story.after)
    assert len(pairs) > 2
    for later, earlier in pairs:
        begun = int(units[later]["InactiveExitTimestampMonotonic"])
        assert begun >= int(units[earlier]["ActiveEnterTimestampMonotonic"]) > 0, (later, earlier)


def test_shutdown_keeps_its_order(story: Story) -> None:
    """A layer must not take its service down early: who is After= another is stopped before it, as without layers."""
    plain, layered = story.stops["plain"], story.stops["layered"]
    assert set(ORDERED) & set(plain) == set(ORDERED) & set(layered) != set()
    # A mount can go by itself before its job comes, with who made it.
    both = {unit for unit in set(plain) & set(layered) if not unit.endswith(".mount")}
    # systemd orders the jobs of two units only if one names the other.
    pairs = [(later, earlier) for later in both for earlier in story.after.get(later, ()) if earlier in both]
    assert len(pairs) > 20
    for name, order in story.stops.items():
        wrong = [(later, earlier) for later, earlier in pairs if order.index(later) > order.index(earlier)]
        assert wrong == [], name


def after(machine: Machine) -> dict[str, list[str]]:
    """What each loaded unit is After=."""
    blocks = machine.ok("systemctl show --all -p Id -p After '*'").split("\n\n")
    found = (dict(line.split("=", 1) for line in block.splitlines()) for block in blocks)
    return {unit["Id"]: unit["After"].split() for unit in found}


def ordered(after: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Pairs (later, earlier) among the services that carry the host, by After= over any number of units."""
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
