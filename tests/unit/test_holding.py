# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is planned, written and brought up to date for what is declared to be held."""

from __future__ import annotations

from pathlib import Path

import pytest

from cgroup_layering import render
from cgroup_layering.config.file import merge
from cgroup_layering.config.model import Config
from cgroup_layering.holding.model import Hold, Holds, from_json
from cgroup_layering.holding.names import holder_name, mount_name, owner_of
from cgroup_layering.model import Change, Tracking
from cgroup_layering.own import declaration, domain_holders
from cgroup_layering.planner import Request, plan
from cgroup_layering.store import Store
from cgroup_layering.unitfile import parse
from cgroup_layering.unitpaths import ETC
from cgroup_layering.upkeep import Action, Case, Subject, decide, file_changes
from tests.holdings import FULL, HOLD
from tests.layerings import facts, host, layering
from tests.planting import plant, put, read_root

FILE = Path("/etc/cgroup-layering/a.toml")
GOOD_TMPFS = '[[hold."a.service".tmpfs]]\npath = "/run/a"\nsize = "1M"\n'


def holds(text: str) -> Holds:
    return merge(Config(), text, FILE).holds


def test_names_lead_back() -> None:
    for owner in ("a.service", "postgresql@17-main.service", "shop/web.domain", r"x\x2dy.service"):
        assert owner_of(holder_name(owner)) == owner
    assert holder_name("a-b.service") == r"cgroup-layering-hold@a\x2db.service.service"
    assert owner_of("cgroup-layering-reap.service") is None
    assert mount_name("/run/a-b/.c") == r"run-a\x2db-\x2ec.mount"


def test_a_declaration_survives_its_unit_file() -> None:
    text = render.holder_texts(FULL, "s.slice", ("a.service",), version="1", part_of=True)[holder_name("a.service")]
    assert declaration(text, Path("x")) == FULL
    assert from_json("{}") is None and from_json("[") is None


def test_units_of_ours_inside_a_layer_count_nothing() -> None:
    text = render.holder_texts(FULL, "s.slice", ("a.service",), version="1", part_of=True)[holder_name("a.service")]
    said = {setting.key: setting.value for setting in parse(text, Path("x")) if setting.section != "X-CgroupLayering"}
    assert said["MemoryAccounting"] == said["TasksAccounting"] == said["IOAccounting"] == "no"
    assert said["TasksMax"] == "infinity"
    assert said["CollectMode"] == "inactive-or-failed"
    assert said["Slice"] == "s.slice" and said["Before"] == said["PartOf"] == "a.service"
    assert not {key for key in said if key.startswith(("Memory", "Delegate"))} - {"MemoryAccounting"}


def test_a_domain_has_a_holder_before_all_its_members() -> None:
    text = render.holder_texts(FULL, "d.slice", ("a.service", "b.service"), version="1", part_of=False)[
        holder_name("a.service")
    ]
    assert "Before=a.service\nBefore=b.service\n" in text and "PartOf" not in text


def test_mounts_carry_size_mode_and_owner() -> None:
    said = render.hold_texts(layering("a.service", hold=FULL))["run-a.mount"]
    assert "Options=mode=0750,size=1048576,uid=a,gid=adm,nosuid,nodev\n" in said


@pytest.mark.parametrize("required", [False, True])
def test_the_service_asks_for_its_holder(required: bool) -> None:
    hold = Hold("a.service", required, maps=FULL.maps)
    word = "Requires" if required else "Wants"
    text = render.drop_in_text(layering("a.service", hold=hold))
    assert f"[Unit]\n{word}={holder_name('a.service')}\n\n[Service]\nSlice=" in text


def planned(request: Request, root: Path) -> tuple[Change, Hold | None, list[str]]:
    (found,) = plan(read_root(root, "a.service"), request).services
    assert found.layering is not None
    return found.change, found.layering.hold, [note.code for note in found.notes]


def test_what_is_declared_is_planned_written_and_read_back(tmp_path: Path) -> None:
    root = plant(tmp_path, {"usr/lib/systemd/system/a.service": "[Service]\nExecStart=/bin/true\n"})
    declared = Config(holds=Holds({"a.service": FULL}))
    change, hold, notes = planned(Request(config=declared), root)
    assert (change, hold) == (Change.ADD, FULL) and "hold-tmpfs" in notes
    (service,) = plan(read_root(root, "a.service"), Request(config=declared)).services
    assert service.layering is not None
    texts = render.hold_texts(service.layering)
    put(root, {f"etc/systemd/system/{name}": text for name, text in texts.items()})
    put(root, {f"etc/systemd/system/{service.layering.layer}": render.slice_text(service.layering)})
    put(root, {"etc/systemd/system/a.service.d/zz-cgroup-layering.conf": render.drop_in_text(service.layering)})
    own = Store(root).own()["a.service"]
    assert own.hold == FULL
    assert [path.name for path, _ in own.held] == [holder_name("a.service"), "run-a.mount"]
    assert planned(Request(config=declared), root)[:2] == (Change.NONE, FULL)
    assert planned(Request(), root)[:2] == (Change.NONE, FULL), "nobody looked: it stays"
    assert planned(Request(config=Config()), root)[:2] == (Change.UPDATE, None)
    bad = Config(holds=Holds({}, {"a.service": "a.toml:1: it is bad."}))
    change, hold, notes = planned(Request(config=bad), root)
    assert (change, hold) == (Change.NONE, FULL) and "hold-bad" in notes
    (root / "etc/systemd/system/run-a.mount").unlink()
    assert planned(Request(config=declared), root)[0] is Change.UPDATE


def test_update_follows_the_declaration() -> None:
    service = facts()
    (one,) = plan(host(service), Request(holds=Holds({"hello.service": HOLD}))).services
    assert one.layering is not None
    said = one.layering
    from cgroup_layering.own import read_back

    held = tuple((ETC / name, text) for name, text in render.hold_texts(said).items())
    own = read_back(ETC / said.layer, render.slice_text(said), render.drop_in_text(said), False, held)
    assert own is not None and own.hold == HOLD
    subject = Subject(own, facts(own=own, slice=said.layer, active_state="active"), True, True)
    same = decide(subject, host(service), {"hello.service"}, Holds({"hello.service": HOLD}))
    assert same.action is Action.NONE
    gone = decide(subject, host(service), {"hello.service"}, Holds())
    assert (gone.case, gone.action) == (Case.DECLARED, Action.WRITE)
    changed = {path.name: after for path, _, after in file_changes(gone)}
    assert changed[holder_name("hello.service")] == ""
    assert "Wants=" not in changed["zz-cgroup-layering.conf"]


def test_no_note_on_a_tmpfs_where_the_layer_pays_at_once() -> None:
    config = Config(holds=Holds({"hello.service": Hold("hello.service", tmpfs=FULL.tmpfs)}))
    (found,) = plan(
        host(facts()), Request(config=config, tracking=Tracking.SERVICE, accept_oom_policy_loss=True)
    ).services
    assert "hold-tmpfs" not in [note.code for note in found.notes]


def test_members_of_a_domain_wait_for_its_holder() -> None:
    declared_here = Holds({"shop.domain": Hold("shop.domain", tmpfs=FULL.tmpfs)}, {"shop/web.domain": "It is bad."})
    inside = facts(domain="system-shop.domain-web.domain.slice")
    (found,) = plan(host(inside), Request(holds=declared_here)).services
    assert found.layering is not None
    assert found.layering.domain_holders == (holder_name("shop.domain"),)
    text = render.drop_in_text(found.layering)
    assert f"Wants={holder_name('shop.domain')}\n" in text and "Requires" not in text
    assert domain_holders(text) == (holder_name("shop.domain"),)
    (outside,) = plan(host(facts()), Request(holds=declared_here)).services
    assert outside.layering is not None and not outside.layering.domain_holders


def test_a_domains_holder_holds_nobody_back() -> None:
    text = '[hold."web.domain"]\nrequired = true\n' + GOOD_TMPFS.replace("a.service", "web.domain")
    assert "`required` is for services" in holds(text).bad["web.domain"]
