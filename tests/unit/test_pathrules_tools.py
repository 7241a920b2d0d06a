# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is in force in the kernel: which tools are asked, what is read, and what is said of tools that fail."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cgroup_layering.model import PathRules
from cgroup_layering.pathrules import look
from cgroup_layering.pathrules.look import Kernel
from cgroup_layering.pathrules.tools import ToolFailed, Tools
from tests.layerings import facts
from tests.pathrules import PLAIN, SET, output, rule
from tests.planting import plant


class Printed(Tools):
    """Tools that print what was captured; what is not there is not installed."""

    def __init__(self, **outputs: str) -> None:
        super().__init__()
        self.outputs = outputs
        self.calls: list[tuple[str, ...]] = []

    def run(self, tool: str, *words: str) -> str:
        """What the tool printed once."""
        self.calls.append((tool, *words))
        name = tool if tool != "nft" else f"{tool} {words[-1]}"
        name = f"{tool} {words[1]}" if tool == "bpftool" else name
        if name not in self.outputs:
            raise ToolFailed(tool, "is not installed")
        return self.outputs[name]


def kernel(tmp_path: Path, *loaded: str, legacy: str = "") -> Kernel:
    """A kernel with these modules loaded and none of netfilter built in."""
    builtin = tmp_path / "lib" / os.uname().release / "modules.builtin"
    (tmp_path / "proc/net").mkdir(parents=True)
    builtin.parent.mkdir(parents=True)
    builtin.write_text("kernel/fs/ext4/ext4.ko\n")
    (tmp_path / "proc/modules").write_text("".join(f"{name} 1 0 - Live 0x0\n" for name in loaded))
    (tmp_path / "proc/net/ip_tables_names").write_text(legacy)
    return Kernel(tmp_path / "proc", tmp_path / "lib")


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user is shown nothing")
def test_looking_at_what_is_in_force(tmp_path: Path) -> None:
    tools = Printed(
        **{
            "nft ruleset": output("nft-list.txt"),
            "nft svcs": output("nft-sets.txt"),
            "nft svcsel": output("nft-sets.txt"),
            "iptables-nft-save": output("iptables-nft-save.txt"),
            "iptables-legacy-save": output("iptables-legacy-save.txt"),
            "bpftool cgroup": output("bpftool-cgroup-tree.json"),
            "bpftool prog": output("bpftool-prog-show.json"),
        }
    )
    services = [
        facts(control_group=PLAIN),
        facts(
            "IPEgressFilterPath=/sys/fs/bpf/egress", unit="other.service", control_group="/system.slice/other.service"
        ),
    ]
    there = kernel(tmp_path, "nft_socket", "xt_cgroup", "nft_compat", legacy="mangle\n")
    found = look.look(services, tools=tools, kernel=there)
    assert found.live
    assert [rule.tool for rule in found.rules if rule.tool != "nftables"] == ["iptables", "iptables", "bpf"]
    assert [rule.place for rule in found.rules if rule.tool == "bpf"] == [f"program 104 attached to {PLAIN}"]
    assert [rule.unclear for rule in found.rules if rule.unclear] == ["its members could not be read"]
    assert len(found.unseen) == 1 and "ip6tables rules (nft)" in found.unseen[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user is shown nothing")
def test_a_set_that_is_filled_later_is_told_by_the_rule_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = (rule("/a", unclear="the set is empty now", paths=(), sets=(SET,)), rule("/b.slice", 1))
    monkeypatch.setattr(look, "saved_rules", lambda _files: (saved, ()))
    sets = output("nft-sets.txt")
    tools = Printed(
        **{
            "nft ruleset": output("nft-list.txt"),
            "nft svcs": sets,
            "nft svcsel": sets,
            "nft vm": sets,
            "bpftool cgroup": "",
        }
    )
    found = look.look([], tools=tools, kernel=kernel(tmp_path, "nft_socket"))
    assert len(found.rules) == 10 and found.rules[-1] == saved[1] and found.unseen == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user is shown nothing")
def test_only_tools_that_can_find_something_run(tmp_path: Path) -> None:
    tools = Printed(**{"bpftool cgroup": "[]"})
    found = look.look([], tools=tools, kernel=kernel(tmp_path, "nf_tables", "ip_tables"))
    assert found == PathRules(found.rules, (), True)
    assert [call[0] for call in tools.calls] == ["bpftool"]


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user is shown nothing")
def test_what_could_not_be_looked_at_is_said(tmp_path: Path) -> None:
    found = look.look([], tools=Printed(), kernel=kernel(tmp_path, "nft_socket", "xt_cgroup", "nft_compat"))
    assert not found.live and len(found.unseen) == 4
    assert "`nft` is not installed" in found.unseen[0]


def test_an_image_is_looked_at_by_its_files(tmp_path: Path) -> None:
    tools = Printed()
    found = look.look([], plant(tmp_path, {"etc/nftables.conf": "add rule t c socket cgroupv2 level 1 a.slice"}), tools)
    assert [rule.paths for rule in found.rules] == [("/a.slice",)] and not found.live and tools.calls == []


def test_a_name_of_a_set_is_never_more_than_a_name(tmp_path: Path) -> None:
    text = "table inet t { chain c { socket cgroupv2 level 2 @a+b drop; } }"
    tools = Printed(**{"nft ruleset": text, "bpftool cgroup": "[]"})
    if os.geteuid() == 0:
        (found,) = look.look([], tools=tools, kernel=kernel(tmp_path, "nft_socket")).rules[:1]
        assert found.unclear == "its members could not be read" and [call[0] for call in tools.calls] == [
            "nft",
            "bpftool",
        ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("echo no >&2; echo 'not: that.' >&2; exit 3", "failed: not: that"),
        ("exit 3", "failed: exit code 3"),
        ("exec sleep 60", "did not end within"),
        ("exec head -c 100000 /dev/zero", "printed more than"),
    ],
)
def test_tools_that_fail(tmp_path: Path, body: str, reason: str) -> None:
    plant(tmp_path, {"tool": f"#!/bin/sh\n{body}\n"})
    (tmp_path / "tool").chmod(0o755)
    tools = Tools(f"{tmp_path}:/usr/bin:/bin", timeout=1 if "sleep" in body else 30, size_limit=1000)
    with pytest.raises(ToolFailed, match=reason):
        tools.run("tool")
    with pytest.raises(ToolFailed, match="is not installed"):
        tools.run("no-such-tool")


def test_tools_see_neither_the_callers_words_nor_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(
        tmp_path,
        {"tool": f"#!{sys.executable} -I\nimport os, sys\nprint(sys.argv[1:], sorted(os.environ), os.getcwd())\n"},
    )
    (tmp_path / "tool").chmod(0o755)
    monkeypatch.setenv("LANG", "xx")
    said = Tools(str(tmp_path)).run("tool", "a b", "$HOME;x")
    assert said.startswith("['a b', '$HOME;x'] ['LC_ALL', 'PATH'") and said.endswith(" /\n") and "LANG" not in said
