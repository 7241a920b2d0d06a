# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks on the files of a root alone: each finds what it is for, and nothing on a sound root."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_layering.doctor.check import Examination, examine
from cgroup_layering.doctor.checks import CHECKS
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.domains.files import Domain, domain_text
from cgroup_layering.domains.naming import domain_slice
from cgroup_layering.model import Layering, Tracking
from cgroup_layering.store import Store
from tests.doctoring import HELLO, LAYER, codes, ours, place, sentences
from tests.planting import ETC, LIB, RUN, SIMPLE, plant, put


def files_of(root: Path, *words: str) -> Examination:
    """What is found in the files of a root."""
    return examine(CHECKS, Evidence(Store(root), None, words))


DROP_IN = f"{ETC}/{HELLO}.d"


SERVICE = ours(tracking=Tracking.SERVICE)


NFT = 'table inet t { chain c { socket cgroupv2 level 2 "system.slice/hello.service" drop; }; }\n'


SET = f"{ETC[:-6]}system.control/{HELLO}.d/50-x.conf"


# What is put on a root with a layered hello.service (an empty text: taken away), in which tracking, and what it says.
OFFLINE: dict[str, tuple[dict[str, str], Layering, str]] = {
    "drift-outranked": ({f"{ETC}/service.d/zzz.conf": "[Service]\nSlice=a.slice\n"}, ours(), "zzz.conf, line 2"),
    "drift-drop-in": ({f"{DROP_IN}/zz-cgroup-layering.conf": ""}, ours(), "next instance"),
    "drift-limits": ({SET: "[Service]\nCPUWeight=300\n"}, ours(), "CPUWeight=300"),
    "drift-stale": ({SET: "[Service]\nMemoryMax=1G\n"}, ours(), "have changed"),
    "drift-refused": ({SET: "[Service]\nSlice=b.slice\n"}, ours(), "(parent-changed)"),
    "drift-alias": ({f"{LIB}/new.service": SIMPLE, f"{ETC}/{HELLO}": "-> new.service"}, ours(), "alias of new.service"),
    "drift-orphan": ({f"{LIB}/{HELLO}": ""}, ours(), "gone from this host"),
    "drift-temporary": ({f"{ETC}/.cgroup-layering-0123": "x"}, ours(), "did not end"),
    "risk-oom-policy": ({f"{LIB}/{HELLO}": SIMPLE}, SERVICE, "OOMPolicy=stop"),
    "risk-path-rule": ({"etc/nftables.conf": NFT}, ours(), "stop matching hello.service"),
    "host-path-rules": ({"etc/nftables.conf": NFT.replace('"system.slice/hello.service"', "$x")}, ours(), "$x"),
    "risk-io": ({SET: "[Service]\nIOReadBandwidthMax=/dev/vda 1M\nOOMPolicy=continue\n"}, SERVICE, "buffered writes"),
}


def test_a_rule_on_the_layer_of_a_plain_service(tmp_path: Path) -> None:
    root = plant(tmp_path, {f"{LIB}/{HELLO}": SIMPLE}, 257)
    put(root, {"etc/iptables/rules.v4": f"*filter\n-A OUTPUT -m cgroup --path system.slice/{LAYER} -j DROP\n"})
    result = files_of(root)
    assert codes(result) == {"risk-path-rule"} and "is not layered" in sentences(result)
    assert codes(files_of(root, "other.service")) == set()
    place(root, ours())
    assert codes(files_of(root)) == set()


def planted(root: Path, files: Mapping[str, str], wanted: Layering) -> Path:
    service = wanted.tracking is Tracking.SERVICE
    text = SIMPLE + ("OOMPolicy=continue\n" if service else "")
    plant(root, {f"{LIB}/{HELLO}": text}, 257)
    if service:
        from cgroup_layering.controls import tracking_resets

        wanted = replace(wanted, resets=tracking_resets(257, True, False))
    place(root, wanted)
    for name, content in files.items():
        if content:
            put(root, {name: content})
        else:
            (root / name).unlink()
    return root


@pytest.mark.parametrize("code", OFFLINE)
def test_drift_and_risks_in_the_files_of_a_root(tmp_path: Path, code: str) -> None:
    files, wanted, expected = OFFLINE[code]
    assert codes(files_of(planted(tmp_path / "sound", {}, wanted))) == set()
    result = files_of(planted(tmp_path / "faulty", files, wanted))
    assert codes(result) == {code}
    assert expected in sentences(result)
    assert {finding.unit for finding in result.findings} <= {HELLO, ""}
    assert "host-psi" in result.live_only and "drift-controller" in result.live_only


SLICE_FILES = {"-> /dev/null": "is masked", "": "has no file", "[Slice]\n": "is not ours"}


@pytest.mark.parametrize("content", SLICE_FILES)
def test_a_slice_file_that_is_masked_gone_or_not_ours(tmp_path: Path, content: str) -> None:
    root = planted(tmp_path, {f"{ETC}/{LAYER}": ""}, ours())
    put(root, {f"{ETC}/{LAYER}": content} if content else {})
    result = files_of(root)
    assert codes(result) == {"drift-slice-file"} and SLICE_FILES[content] in sentences(result)
    assert codes(files_of(root, "other.service")) == set()
    assert codes(files_of(root, "h*")) == {"drift-slice-file"}


@pytest.mark.parametrize("content", SLICE_FILES)
def test_a_domains_file_that_is_masked_gone_or_not_ours(tmp_path: Path, content: str) -> None:
    root = plant(tmp_path, {f"{LIB}/{HELLO}": SIMPLE}, 257)
    web, inner = (Domain(name, Path("/", ETC, domain_slice(name))) for name in ("web", "web/inner"))
    layer = ours(layer="system-web.domain-inner.domain-hello.service.slice", domain="web/inner")
    place(root, layer)
    for one in (web, inner):
        put(root, {str(one.file)[1:]: domain_text(one, {})})
    assert codes(files_of(root)) == set()
    (root / str(web.file)[1:]).unlink()
    put(root, {str(web.file)[1:]: content} if content else {})
    result = files_of(root)
    assert codes(result) == {"drift-domain"} and SLICE_FILES[content] in sentences(result)
    assert "hello.service is in the domain web, whose system-web.domain.slice" in sentences(result)


def test_layers_in_run_are_told_and_not_taken_for_stale(tmp_path: Path) -> None:
    root = plant(tmp_path, {f"{LIB}/{HELLO}": SIMPLE}, 257)
    place(root, ours(), RUN)
    assert codes(files_of(root)) == {"drift-runtime"}
