# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules on cgroups: read from what the tools really print, and held against services."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cgroup_layering.model import PathRule, PathRules, ServiceFacts, Verdict
from cgroup_layering.pathrules import iptables, programs
from cgroup_layering.pathrules.files import Files
from cgroup_layering.pathrules.nfttext import NftText
from cgroup_layering.pathrules.reasons import find
from cgroup_layering.pathrules.saved import saved_rules
from cgroup_layering.pathrules.stops import effects, named_layers
from cgroup_layering.planner import Request, plan
from tests.layerings import facts, host, layering
from tests.pathrules import LAYER, PLAIN, SET, output, rule
from tests.planting import plant


def nft(text: str, file: str = "") -> tuple[PathRule, ...]:
    """The rules in a text of nft's language."""
    listing = NftText()
    listing.read(text, file)
    return listing.resolved()


def in_chain(rule: str) -> PathRule:
    """The one rule of a chain."""
    (found,) = nft(f"table inet t {{\n chain c {{\n  {rule}\n }}\n}}\n")
    return found


def test_a_listing_of_nft() -> None:
    listing = NftText()
    listing.read(output("nft-list.txt"))
    assert list(listing.wanted_sets()) == [("inet", "fw", name) for name in ("svcs", "svcsel", "vm")]
    listing.read(output("nft-sets.txt"))
    found = {rule.place.rpartition(" ")[2]: rule for rule in listing.resolved()}
    assert list(found) == ["6", "7", "8", "10", "11", "12", "13", "15", "17"], "handles, `meta cgroup` not among them"
    assert all(rule.place.startswith("table inet fw, chain out, handle ") for rule in found.values())
    assert (found["6"].level, found["6"].paths) == (1, ("/system.slice",))
    assert {handle for handle, rule in found.items() if PLAIN in rule.paths} == set(found) - {"6", "11"}
    assert found["11"].paths == ("/system.slice/other.service",)
    assert [handle for handle, rule in found.items() if rule.negated] == ["8"]
    assert found["7"].text == 'socket cgroupv2 level 2 "system.slice/hello.service"'
    assert not any(rule.unclear for rule in found.values())


@pytest.mark.parametrize(
    ("rule", "paths", "level", "negated"),
    [
        ('socket cgroupv2 level 2 "a.slice/b.service" drop', ("/a.slice/b.service",), 2, False),
        ("socket cgroupv2 level 2 a.slice/b.service drop", ("/a.slice/b.service",), 2, False),
        ('socket cgroupv2 level 1 != "a.slice" log prefix "b.slice" drop', ("/a.slice",), 1, True),
        ('socket cgroupv2 level 1 { "a.slice",\n "b.slice" } accept', ("/a.slice", "/b.slice"), 1, False),
        ('tcp dport . socket cgroupv2 level 1 { 80 . "a.slice" }', ("/a.slice",), 1, False),
        ('socket cgroupv2 level 1 . tcp dport vmap { "a.slice" . 80 : drop }', ("/a.slice",), 1, False),
        ('ct mark set socket cgroupv2 level 1 map { "a.slice" : 1 }', ("/a.slice",), 1, False),
        ('tcp dport 80 jump { socket cgroupv2 level 1 "a.slice" drop; }', ("/a.slice",), 1, False),
        ('socket cgroupv2 level 1 \\\n "a.slice" # "b.slice"', ("/a.slice",), 1, False),
    ],
)
def test_comparisons(rule: str, paths: tuple[str, ...], level: int, negated: bool) -> None:
    found = in_chain(rule)
    assert (found.paths, found.level, found.negated, found.unclear) == (paths, level, negated, "")


def test_two_comparisons_in_one_rule() -> None:
    text = 'table t { chain c { socket cgroupv2 level 1 "a.slice" socket cgroupv2 level 2 "a.slice/b.service" drop; } }'
    assert [rule.paths for rule in nft(text)] == [("/a.slice",), ("/a.slice/b.service",)]


@pytest.mark.parametrize(
    "text",
    [
        "add rule t c update @meter { socket cgroupv2 level 2 limit rate 1/second }",
        "add rule t c update @meter { ip saddr . socket cgroupv2 level 2 timeout 5m }",
        "table t { set s { typeof socket cgroupv2 level 2; elements = { a.slice } } }",
        "# add rule t c socket cgroupv2 level 1 a.slice drop",
        'table t { chain c { comment "socket cgroupv2 level 1"; } }',
        "add rule t c socket cgroupv2 level",
        "table t { chain c { socket cgroupv2 level 2",
        "}}}} ; } {",
        "",
    ],
)
def test_what_compares_with_nothing(text: str) -> None:
    assert nft(text) == ()


def test_what_is_not_known() -> None:
    assert "number 4711" in in_chain("socket cgroupv2 level 2 4711 drop").unclear
    assert "$who is not defined" in in_chain("socket cgroupv2 level 2 $who drop").unclear
    assert "empty" in in_chain("socket cgroupv2 level 2 @who drop").unclear


def test_commands_variables_and_includes(tmp_path: Path) -> None:
    files = {
        "etc/nftables.conf": 'define who = "system.slice/hello.service"\ninclude "/etc/d/*.nft"\ninclude "more.nft"\n',
        "etc/d/a.nft": "add rule inet t c socket cgroupv2 level 2 $who drop\n",
        "etc/d/.hidden.nft": "add rule inet t c socket cgroupv2 level 2 hidden.slice drop\n",
        "etc/more.nft": "add rule t c socket cgroupv2 level 2 @s\nadd element t s { system.slice/hello.service }\n"
        'include "/etc/nftables.conf"\n',
        "etc/iptables/rules.v6": "*raw\n-A OUTPUT -m cgroup --path /system.slice/hello.service -j DROP\n",
        "etc/ufw/user.rules": "# no --path\n",
    }
    rules, unseen = saved_rules(Files(plant(tmp_path, files)))
    assert unseen == ()
    assert [(rule.place, rule.paths) for rule in rules] == [
        ("/etc/d/a.nft, line 1", (PLAIN,)),
        ("/etc/more.nft, line 1", (PLAIN,)),
        ("/etc/iptables/rules.v6, line 2", (PLAIN,)),
    ]


def test_files_never_leave_the_root(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("add rule t c socket cgroupv2 level 1 out.slice\n")
    root = plant(tmp_path / "root", {"etc/real.nft": "add rule t c socket cgroupv2 level 1 in.slice\n"})
    (root / "etc/nftables.conf").symlink_to("/../../etc/real.nft")
    (root / "etc/iptables").symlink_to(f"{tmp_path}")
    (rule,) = saved_rules(Files(root))[0]
    assert rule.paths == ("/in.slice",)
    (root / "etc/nftables.conf").unlink()
    (root / "etc/nftables.conf").symlink_to("nftables.conf")
    rules, unseen = saved_rules(Files(root))
    assert rules == () and "/etc/nftables.conf could not be looked at" in unseen[0]


def test_a_pipe_is_no_configuration(tmp_path: Path) -> None:
    root = plant(tmp_path, {"etc/x": ""})
    os.mkfifo(root / "etc/nftables.conf")
    assert "not a regular file" in saved_rules(Files(root))[1][0]


def test_iptables_save() -> None:
    found = list(iptables.parse(output("iptables-nft-save.txt"), "iptables"))
    assert [(rule.place, rule.paths, rule.negated) for rule in found] == [("iptables table filter", (PLAIN,), False)]
    (found6,) = iptables.parse(output("ip6tables-nft-save.txt"), "ip6tables")
    assert found6.negated and found6.paths == (PLAIN,)
    (legacy,) = iptables.parse(output("iptables-legacy-save.txt"), "iptables")
    assert legacy.place == "iptables table mangle" and legacy.paths == (PLAIN,)
    assert list(iptables.parse('-A OUTPUT -m owner --path x "\n-A OUTPUT -m cgroup --path')) == []


def test_programs() -> None:
    found = programs.parse_tree(output("bpftool-cgroup-tree.json"), "/sys/fs/cgroup")
    assert [(program.cgroup, program.id, program.name) for program in found] == [
        (PLAIN, 104, "pass_all"),
        ("/system.slice/other.service", 104, "pass_all"),
    ], "neither systemd's own nor what is on slices"
    assert found[0].rule.text == "cgroup_inet_egress pass_all"
    assert programs.parse_id(output("bpftool-prog-show.json")) == 104
    for text in ("{}", "7", "["):
        with pytest.raises((ValueError, TypeError)):
            programs.parse_tree(text, "/sys/fs/cgroup")


HELD = {
    "above": rule("/system.slice", 1),
    "root": rule("/", None),
    "another": rule("/system.slice/hello2.service"),
    "the layer": rule(LAYER),
    "in the layer": rule(f"{LAYER}/hello.service", 3),
    "all but another": rule("/system.slice/hello2.service", negated=True),
    "far deeper": rule("/a.slice/b/c/d", 4, negated=True),
    "in another's set": rule("/system.slice/hello2.service", sets=(SET,)),
}
CHANGED = {
    "itself": (rule(PLAIN), "stop matching"),
    "below it": (rule(f"{PLAIN}/payload", 3), "stop matching"),
    "all but it": (rule(PLAIN, negated=True), "start matching"),
    "iptables": (rule(PLAIN, None, tool="iptables"), "stop matching"),
    "a program": (rule(PLAIN, None, tool="bpf"), "stop matching"),
    "a level deeper, all but another": (rule("/system.slice/x.service/y", 3, negated=True), "start matching"),
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD.keys())
def test_rules_that_hold(held: PathRule) -> None:
    (found,) = plan(host(facts(), path_rules=PathRules((held,), live=True)), Request()).services
    assert found.verdict is Verdict.LAYERED and found.notes == ()


@pytest.mark.parametrize(("changed", "how"), CHANGED.values(), ids=CHANGED.keys())
def test_rules_that_do_not(changed: PathRule, how: str) -> None:
    there = host(facts(), path_rules=PathRules((changed, changed), live=True))
    (found,) = plan(there, Request()).services
    assert found.verdict is Verdict.REFUSED
    (reason,) = found.reasons
    assert reason.code == "path-rule" and how in reason.sentence and changed.place in reason.sentence
    assert "and 1 more" in reason.sentence and LAYER in reason.sentence and "--ignore-path-rules" in reason.sentence
    (found,) = plan(there, Request(ignore_path_rules=True)).services
    assert found.verdict is Verdict.LAYERED and [note.code for note in found.notes] == ["path-rule"]


def test_other_places_of_a_service() -> None:
    """A parent of its own, an escaped name, a cgroup that it has in spite of its files."""
    seen = PathRules((rule("/a.slice/hello.service"), rule("/system.slice/_io.service"), rule("/b.slice/x.service")))
    for service in (facts("Slice=a.slice"), facts(unit="io.service"), facts(control_group="/b.slice/x.service")):
        assert len(effects(service, seen, 252)) == 1
    assert effects(facts(unit="postgresql@15-main.service"), PathRules((rule("/system.slice/x", 2),)), 252) == ()


def test_a_set_that_systemd_fills() -> None:
    service = facts("NFTSet=cgroup:inet:fw:svcs user:inet:fw:users")

    def verdict(*rules: PathRule, version: int = 257, live: bool = True) -> tuple[Verdict, list[str]]:
        there = host(service, version=version, path_rules=PathRules(rules, live=live))
        (found,) = plan(there, Request()).services
        return found.verdict, [reason.sentence for reason in (*found.reasons, *found.notes)]

    said, (sentence,) = verdict(rule(PLAIN, 2, sets=(SET,)))
    assert said is Verdict.REFUSED and "say level 3" in sentence
    assert verdict(rule(PLAIN, 3, sets=(SET,))) == (Verdict.LAYERED, [])
    assert verdict(rule("/x", 2, sets=(SET,)), version=252) == (Verdict.LAYERED, []), "252 knows no NFTSet="
    said, (sentence,) = verdict()
    assert said is Verdict.LAYERED and "inet fw svcs (/usr/lib/systemd/system/hello.service, line 3)" in sentence
    assert verdict(live=False)[0] is Verdict.REFUSED


def test_a_layered_service_is_not_refused() -> None:
    from tests.unit.test_planner import own

    service = facts(own=own(layering()))
    there = host(service, path_rules=PathRules((rule(PLAIN),)))
    (found,) = plan(there, Request()).services
    assert found.verdict is Verdict.LAYERED and [note.code for note in found.notes] == ["path-rule"]
    assert [*named_layers(PathRules((rule(PLAIN), rule(LAYER))))] == [("hello.service", rule(LAYER))]


def test_finding_what_is_wrong_now() -> None:
    from tests.unit.test_planner import own

    layered, plain = facts(own=own(layering())), facts()
    missed, early = rule(PLAIN), rule(LAYER)

    def found(service: ServiceFacts, *rules: PathRule) -> list[str]:
        there = host(service, path_rules=PathRules(rules, live=True))
        return [said for unit, said in find(there, [service.unit] if service.own else []) if unit == service.unit]

    assert found(layered, early) == found(plain, missed) == []
    assert [PLAIN in sentence or "stop matching" in sentence for sentence in found(layered, missed)] == [True]
    assert ["is not layered" in sentence for sentence in found(plain, early)] == [True]
    assert [*find(host(layered), [layered.unit])] == []


def test_notes_on_the_host() -> None:
    seen = PathRules((rule("/x", unclear="the set is empty now", sets=(SET,)),), ("Nobody could look.",))
    notes = plan(host(facts(), path_rules=seen), Request()).notes
    assert [note.code for note in notes] == ["path-rules-unseen", "path-rule-unclear"]
    assert "the set is empty now" in notes[1].sentence
    filled = facts("NFTSet=cgroup:inet:fw:svcs")
    assert [note.code for note in plan(host(filled, path_rules=seen), Request()).notes] == ["path-rules-unseen"]
    assert plan(host(facts()), Request()).notes == ()
