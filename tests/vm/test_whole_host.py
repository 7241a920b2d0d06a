# SPDX-License-Identifier: LGPL-2.1-or-later
"""The main job: a stock host is migrated, restarted, rebooted, measured, and rolled back without a trace.

The fixtures are stages of one story, each built on the one before, because a boot costs a minute under emulation.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field

import pytest

from tests.vm.machine import GUEST, Machine, Result

pytestmark = pytest.mark.on("trixie")

FOLLOWED = ("nginx.service", "redis-server.service", "memcached.service", "cron.service", "rsyslog.service")
"""Real services whose pages are followed over restarts; the postgresql instance comes on top."""

MADE = ("nginx.service", "memcached.service", "cron.service", "rsyslog.service")
"""Those with about 1 MiB of files of their own, or less: they read a made one at their start."""


@dataclass
class Story:
    """What the stages saw."""

    machine: Machine
    postgresql: str = ""
    running_before: dict[str, str] = field(default_factory=dict)
    plain_pages: dict[str, dict[str, int]] = field(default_factory=dict)
    manifests: list[dict[str, list[str]]] = field(default_factory=list)
    plain_journal_end: str = ""
    plan: dict[str, dict[str, object]] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    running: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def followed(self) -> tuple[str, ...]:
        """The real services whose pages are followed."""
        return (*FOLLOWED, self.postgresql)

    def pages(self, restarts: int, *units: str) -> dict[str, dict[str, int]]:
        """Follow the pages of units over restarts, by the reader that shares nothing with the package."""
        found = json.loads(self.machine.ok(f"python3 {GUEST}/ownpages.py {restarts} {shlex.join(units)}"))
        return dict(found)


@pytest.fixture(scope="module")
def plain(fresh: Machine, everything: bool) -> Story:
    """The stock host: what runs, what is in its folders before and after a plain reboot, who pays for pages."""
    for unit in MADE:
        fresh.ok(f"mkdir -p /var/lib/made && head -c 2M /dev/urandom > /var/lib/made/{unit}")
        drop_in = f"/etc/systemd/system/{unit}.d/reads.conf"
        fresh.write(drop_in, f"[Service]\nExecStartPre=/usr/bin/cat /var/lib/made/{unit}\nStandardOutput=null\n")
    fresh.ok("systemctl daemon-reload")
    names = fresh.ok("systemctl list-units --plain --no-legend 'postgresql@*.service' | cut -d' ' -f1")
    story = Story(fresh, postgresql=names.split()[0])
    story.manifests.append(fresh.manifest())
    story.words["plain reboot"] = fresh.reboot()
    story.manifests.append(fresh.manifest())
    story.plain_journal_end = fresh.ok("journalctl -b -1 -n 40 -o cat --no-pager")
    # The plain half is the known one, and the demo service tells it too.
    story.plain_pages = story.pages(10, *story.followed) if everything else {}
    story.running_before = fresh.services("active")
    return story


@pytest.fixture(scope="module")
def migrated(plain: Story) -> Story:
    """After the one-shot migration."""
    machine = plain.machine
    document = machine.json("plan")
    plain.plan = {service["unit"]: service for service in document["services"]}
    plain.results["migrate"] = machine.tool("migrate", "--yes", "--now")
    plain.words["migrated"] = machine.ok("systemctl is-system-running --wait || true")
    plain.running["migrated"] = machine.services("active")
    plain.results["verify"] = machine.tool("verify")
    plain.results["again"] = machine.tool("migrate", "--yes")
    return plain


@pytest.fixture(scope="module")
def rebooted(migrated: Story) -> Story:
    """After a reboot with everything layered."""
    machine = migrated.machine
    migrated.words["rebooted"] = machine.reboot()
    migrated.running["rebooted"] = machine.services("active")
    migrated.results["verify rebooted"] = machine.tool("verify")
    return migrated


@pytest.fixture(scope="module")
def rolled_back(rebooted: Story) -> Story:
    """After rollback and one more reboot."""
    machine = rebooted.machine
    rebooted.results["rollback"] = machine.tool("rollback")
    rebooted.results["rollback again"] = machine.tool("rollback")
    rebooted.words["rolled back, not yet restarted"] = machine.ok("systemctl is-system-running || true")
    rebooted.words["rolled back"] = machine.reboot()
    rebooted.manifests.append(machine.manifest())
    rebooted.running["rolled back"] = machine.services("active")
    return rebooted


def layer_of(plan: dict[str, dict[str, object]], unit: str) -> str:
    """The layer that the plan gave a unit."""
    return str(plan[unit]["layer"])


def in_layer(cgroup: str, layer: str) -> bool:
    """Whether a cgroup lies in a layer."""
    return f"/{layer}/" in cgroup


def wanted_now_and_then(machine: Machine, unit: str) -> bool:
    """Whether a service is started over the bus or by a socket, and ends by itself when nobody talks to it."""
    return bool(machine.show(unit, "BusName") or machine.show(unit, "TriggeredBy"))


def ended_by_itself(machine: Machine, unit: str) -> bool:
    """Whether such a service has ended, and well: that is no loss."""
    return wanted_now_and_then(machine, unit) and machine.show(unit, "Result") == "success"


@pytest.mark.long
def test_plain_pages_are_lost(plain: Story) -> None:
    """What this project is about: after a restart the plain service is not charged for its own files."""
    for unit, seen in plain.plain_pages.items():
        assert seen["resident"] > 0.9 * seen["taken"] > 200, f"inconclusive for {unit}: {seen}"
        assert seen["charged"] < 0.1 * seen["resident"], f"{unit}: {seen}"


def test_migration_succeeds(migrated: Story) -> None:
    """The host is as healthy as before, and the command says so."""
    result = migrated.results["migrate"]
    assert result.code == 0, result.err
    assert migrated.words["migrated"] == "running"
    for unit in set(migrated.running_before) - set(migrated.running["migrated"]):
        assert ended_by_itself(migrated.machine, unit), f"{unit} ran before the migration"


def test_every_restartable_service_is_in_its_layer(migrated: Story) -> None:
    """All that the plan wanted to restart is where it belongs; there are some, real ones among them."""
    movers = [unit for unit, service in migrated.plan.items() if service["when"] == "restart"]
    assert {"nginx.service", "redis-server.service", "memcached.service", migrated.postgresql} <= set(movers)
    for unit in movers:
        cgroup = migrated.running["migrated"].get(unit)
        if cgroup is None:
            assert ended_by_itself(migrated.machine, unit), unit
        else:
            assert in_layer(cgroup, layer_of(migrated.plan, unit)), unit


def test_nothing_critical_was_restarted(migrated: Story) -> None:
    """What carries the host or the caller stayed where it was."""
    for unit in ("ssh.service", "dbus.service", "systemd-journald.service", "systemd-networkd.service"):
        assert migrated.running["migrated"][unit] == migrated.running_before[unit]
        assert migrated.plan[unit]["when"] == "next boot"


def test_every_refusal_and_deferral_has_a_reason(migrated: Story) -> None:
    """A stable code and a sentence that names the unit."""
    assert len(migrated.plan) > 80
    for unit, service in migrated.plan.items():
        reasons = service["reasons"]
        assert isinstance(reasons, list)
        if service["verdict"] != "layered":
            assert reasons, unit
        for reason in reasons:
            assert reason["code"] and unit in reason["sentence"], reason


def test_verify_holds_after_migration(migrated: Story) -> None:
    """Every promise is kept."""
    assert migrated.results["verify"].code == 0, migrated.results["verify"].out + migrated.results["verify"].err


def test_second_migration_changes_nothing(migrated: Story) -> None:
    """Idempotence."""
    result = migrated.results["again"]
    assert result.code == 0
    assert "Nothing to change" in result.err


def test_reboot_with_everything_layered(rebooted: Story) -> None:
    """Healthy, no cycle, and the boot-only ones have moved too."""
    machine = rebooted.machine
    assert rebooted.words["rebooted"] == "running"
    assert machine.ok("systemctl --failed --no-legend --plain") == ""
    assert machine.ok("journalctl -b --no-pager | grep -ci 'ordering cycle' || true") == "0"
    running = rebooted.running["rebooted"]
    for unit, cgroup in running.items():
        planned = rebooted.plan.get(unit)
        if cgroup and planned is not None and planned["layer"]:
            assert in_layer(cgroup, str(planned["layer"])), f"{unit} runs in {cgroup}"
    for unit in ("ssh.service", "dbus.service", "systemd-journald.service", "cron.service", "systemd-udevd.service"):
        assert in_layer(running[unit], layer_of(rebooted.plan, unit))
    assert rebooted.results["verify rebooted"].code == 0, rebooted.results["verify rebooted"].out


def test_exited_services_are_set_to_their_layers(rebooted: Story) -> None:
    """An exited RemainAfterExit unit has no cgroup; its Slice tells."""
    exited = [
        unit
        for unit, cgroup in rebooted.running["rebooted"].items()
        if not cgroup and rebooted.plan.get(unit, {}).get("layer")
    ]
    assert exited
    slices = rebooted.machine.ok(f"systemctl show --value -p Slice {shlex.join(exited)}").split()
    assert slices == [layer_of(rebooted.plan, unit) for unit in exited]


def test_journald_logs_to_the_end(rebooted: Story) -> None:
    """A layer must not stop journald early at shutdown: the last lines are those of a plain shutdown."""
    layered_end = rebooted.machine.ok("journalctl -b -1 -n 40 -o cat --no-pager")
    for line in ("Journal stopped", "Reached target"):
        assert line in rebooted.plain_journal_end
        assert line in layered_end
    assert layered_end.splitlines()[-1] == rebooted.plain_journal_end.splitlines()[-1]


def test_pages_stay_charged_to_the_layer(rebooted: Story, everything: bool) -> None:
    """Ten restarts of each real service, or three: of its own pages still resident, at least 0.99 are the layer's."""
    restarts = 10 if everything else 3
    seen = rebooted.pages(restarts, *rebooted.followed)
    for unit, pages in seen.items():
        if pages["resident"] < 0.9 * pages["taken"]:
            pages = rebooted.pages(restarts, unit)[unit]
        assert pages["taken"] >= 256, f"{unit} has less than 1 MiB to follow: {pages}"
        assert pages["resident"] >= 0.9 * pages["taken"], f"inconclusive for {unit}: {pages}"
        assert pages["charged"] >= 0.99 * pages["resident"], f"{unit}: {pages}"


def test_status_tells_what_outlived(rebooted: Story) -> None:
    """After the restarts the layer holds more than the instance, and status says how much."""
    (service,) = rebooted.machine.json("status", "redis-server")["services"]
    assert service["place"] == "in layer"
    assert service["layer_bytes"] >= service["instance_bytes"] > 0
    assert service["outlived_bytes"] == service["layer_bytes"] - service["instance_bytes"]


def test_rollback_leaves_no_trace(rolled_back: Story) -> None:
    """Files as before, but for what differs between two plain boots; no layer left; services as before."""
    assert rolled_back.results["rollback"].code == 0, rolled_back.results["rollback"].err
    assert rolled_back.results["rollback again"].code == 0
    assert rolled_back.words["rolled back, not yet restarted"] == "running"
    assert rolled_back.words["rolled back"] == "running"
    first, second, last = rolled_back.manifests
    noise = {path for path in first.keys() | second.keys() if first.get(path) != second.get(path)}
    changed = {path for path in second.keys() | last.keys() if second.get(path) != last.get(path)}
    assert changed <= noise
    assert rolled_back.machine.ok("find /sys/fs/cgroup -name '*.service.slice' | wc -l") == "0"
    before, after = rolled_back.running_before, rolled_back.running["rolled back"]
    different = [unit for unit in before.keys() | after.keys() if before.get(unit, "") != after.get(unit, "")]
    for unit in different:
        assert wanted_now_and_then(rolled_back.machine, unit), f"{unit}: {before.get(unit)} is {after.get(unit)} now"
        assert "" in (before.get(unit, ""), after.get(unit, ""))


def test_rollback_twice_says_so(rolled_back: Story) -> None:
    """There is nothing more to undo."""
    assert "There is no migration to roll back" in rolled_back.results["rollback again"].err
