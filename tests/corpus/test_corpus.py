# SPDX-License-Identifier: LGPL-2.1-or-later
"""Unit files with expectations in their comments; README.md here explains the lines."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cgroup_layering import render
from cgroup_layering.model import Host, Layering, Plan, ServicePlan, Tracking, Verdict
from cgroup_layering.naming import template_of
from cgroup_layering.own import drop_in_path
from cgroup_layering.planner import Request, plan
from cgroup_layering.store import Store
from cgroup_layering.transaction import write_plan
from cgroup_layering.unitfile import UnitFiles, parse
from cgroup_layering.unitpaths import ETC as ETC_PATH
from tests.corpus.releases import RELEASES
from tests.planting import ETC, LIB, plant, put, read_root
from tests.systemd_offline import Read, load, needs_systemd, version

FOLDER = Path(__file__).parent
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.service"))
REAL = [name for name in FILES if name.startswith("debian/")]
"""Of Debian's packages, less comments, Documentation= and [Install]."""
EXPECTED: tuple[str, ...] = (
    "verdict",
    "code",
    "note",
    "tracking",
    "layer",
    "parent",
    "timing",
    "slice-line",
    "no-slice-line",
)
EXPECTED += ("fixed-line", "unit-line", "drop-in-line", "no-drop-in-line")
KNOWN = {*(f"expect-{word}" for word in EXPECTED), "unit", "version", "state", "ask-tracking", "ask-unnamed"}
KNOWN |= {"from", "ignored", "ask-accept", "ask-limits", "concurrency", "oomd-kill", "empty"}


@dataclass(frozen=True)
class Case:
    """One file of the corpus and what it says about itself."""

    name: str
    said: dict[str, list[str]]

    @classmethod
    def read(cls, name: str) -> Case:
        said = defaultdict(list)
        for line in (FOLDER / name).read_text().splitlines():
            if line.startswith("##"):
                key, _, value = line.removeprefix("##").strip().partition(":")
                said[key].append(value.strip())
        return cls(name, said)

    def one(self, key: str, default: str = "") -> str:
        (value,) = self.said.get(key, [default])
        return value

    @property
    def unit(self) -> str:
        return self.one("unit", self.name)

    @property
    def versions(self) -> list[int]:
        return [int(word) for word in self.one("version", "252 257 262").split()]

    def plant(self, root: Path) -> None:
        text = "" if self.one("empty") else (FOLDER / self.name).read_text()
        name = (template_of(self.unit) or self.unit) if "@" in self.name else self.unit
        put(root, {f"{LIB}/{name}": text})
        for path in sorted((FOLDER / f"{self.name}.d").glob("*.conf")):
            put(root, {f"{ETC}/{self.unit}.d/{path.name}": path.read_text()})

    def request(self) -> Request:
        tracking = self.one("ask-tracking")
        return Request(
            tracking=Tracking(tracking) if tracking else None,
            limits=self.one("ask-limits") != "no",
            accept_oom_policy_loss=self.one("ask-accept") == "yes",
            named=frozenset() if self.one("ask-unnamed") else frozenset((self.unit,)),
        )

    def host(self, found: Host) -> Host:
        facts = found.services[self.unit]
        state = self.one("state").split()
        if state:
            group = f"/system.slice/{self.unit}"
            facts = replace(facts, active_state=state[0], sub_state=state[1], control_group=group)
        return replace(
            found,
            services={self.unit: facts},
            online=bool(state),
            concurrency_slices=frozenset(self.said.get("concurrency", ())),
            oom_kill_units=dict.fromkeys(self.said.get("oomd-kill", ()), "ManagedOOMSwap=kill"),
        )


CASES = [(Case.read(name), at) for name in FILES for at in Case.read(name).versions]


def section(text: str, name: str) -> list[str]:
    settings = UnitFiles(parse(text, Path("/x"))).settings
    return [f"{setting.key}={setting.value}" for setting in settings if setting.section == name]


@pytest.mark.parametrize(("case", "at"), CASES, ids=[f"{case.name}-{at}" for case, at in CASES])
def test_expectations(case: Case, at: int, tmp_path: Path) -> None:
    assert set(case.said) <= KNOWN, "a mistyped expectation expects nothing"
    root = plant(tmp_path, version=at)
    case.plant(root)
    host = case.host(read_root(root, case.unit))
    assert host.version == at
    (found,) = plan(host, case.request()).services
    assert found.verdict == case.one("expect-verdict")
    assert " ".join(sorted(reason.code for reason in found.reasons)) == case.one("expect-code")
    assert " ".join(sorted(note.code for note in found.notes)) == case.one("expect-note")
    assert all(case.unit in reason.sentence for reason in (*found.reasons, *found.notes))
    if found.verdict is Verdict.REFUSED:
        assert found.layering is None
        return
    assert found.layering is not None
    expect_plan(case, found, found.layering)
    expect_files(case, found.layering)


def expect_plan(case: Case, found: ServicePlan, layering: Layering) -> None:
    for key, value in (
        ("expect-tracking", layering.tracking),
        ("expect-layer", layering.layer),
        ("expect-parent", layering.parent),
        ("expect-timing", found.timing),
    ):
        assert case.one(key, value) == value


def expect_files(case: Case, layering: Layering) -> None:
    slice_text, drop_in = render.slice_text(layering), render.drop_in_text(layering)
    lines = section(slice_text, "Slice")
    fixed = ["MemoryAccounting=yes", "ManagedOOMPreference=omit"]
    assert lines[:2] == fixed and set(case.said["expect-fixed-line"]) <= set(fixed)
    assert sorted(lines[2:]) == sorted(case.said["expect-slice-line"])
    assert not set(lines) & set(case.said["expect-no-slice-line"])
    unit_lines = section(slice_text, "Unit")
    assert "DefaultDependencies=no" in unit_lines and set(case.said["expect-unit-line"]) <= set(unit_lines)
    service = section(drop_in, "Service")
    assert service[0] == f"Slice={layering.layer}"
    if layering.tracking is Tracking.INSTANCE:
        assert len(service) == 1, "in `instance` tracking nothing of the service is touched"
    assert not [line for line in service if re.match(r"Startup.*Memory", line)]
    assert set(case.said["expect-drop-in-line"]) <= set(service)
    assert not set(service) & set(case.said["expect-no-drop-in-line"])


def test_the_corpus_is_whole() -> None:
    assert len(FILES) >= 300 and len(REAL) >= 150
    cases = [Case.read(name) for name in FILES]
    assert all(case.one("expect-verdict") for case in cases)
    assert all(any(case.one("from") and at in case.versions for case in cases) for at in RELEASES)
    for path in FOLDER.glob("*.service.d"):
        assert path.name.removesuffix(".d") in FILES, f"nothing plants {path.name}"


@pytest.mark.parametrize("trap", range(1, 11))
def test_each_trap_has_its_files(trap: int) -> None:
    assert [name for name in FILES if name.startswith(f"trap-{trap:02}-")]


@pytest.mark.parametrize("at", RELEASES)
def test_each_directive_of_a_release_is_in_the_corpus_for_it(at: int) -> None:
    texts = [(FOLDER / case.name).read_text() for case, version_of in CASES if version_of == at]
    unmet = [name for name in RELEASES[at] if not any(re.search(rf"^{name}=", text, re.MULTILINE) for text in texts)]
    assert unmet == []


COMPARED: tuple[str, ...] = ("MemoryMin", "MemoryLow", "MemoryHigh", "MemoryMax", "MemorySwapMax", "MemoryLimit")
COMPARED += ("CPUWeight", "StartupCPUWeight", "CPUShares", "IOWeight", "StartupIOWeight", "BlockIOWeight")
LIMITS = ("MemoryMax", "MemoryHigh", "MemorySwapMax", "MemoryLimit")


@dataclass(frozen=True)
class Layered:
    """The whole corpus in one root, as systemd read it before and after it was layered."""

    plans: dict[str, ServicePlan]
    cases: dict[str, Case]
    before: dict[str, Read]
    after: dict[str, Read]
    talk: str


@pytest.fixture(scope="module")
def layered(tmp_path_factory: pytest.TempPathFactory) -> Layered:
    root = plant(tmp_path_factory.mktemp("corpus"), version=version())
    cases = {case.unit: case for case, at in CASES if at == version()}
    for case in cases.values():
        case.plant(root)
    host = read_root(root, *cases)
    found = [plan(case.host(host), case.request()).services[0] for unit, case in cases.items()]
    wanted = [service for service in Plan(tuple(found)).layered if service.layering is not None]
    dirs = [root / ETC, root / LIB]
    units = [service.unit for service in wanted]
    before, _ = load(dirs, units)
    write_plan(wanted, Store(root), ETC_PATH, None, False)
    layers = [service.layering.layer for service in wanted if service.layering is not None]
    after, talk = load(dirs, [*units, *layers])
    return Layered({service.unit: service for service in wanted}, cases, before, after, talk)


@needs_systemd
@pytest.mark.skipif(version() not in (252, 257, 262), reason="the corpus has no expectations for this systemd")
def test_systemd_puts_every_service_into_its_layer(layered: Layered) -> None:
    for unit, service in layered.plans.items():
        assert service.layering is not None
        assert layered.after[unit].one("Slice") == service.layering.layer
        assert drop_in_path(Path("/"), unit).name in [path.name for path in layered.after[unit].paths("DropIn Path")]
        assert layered.after[service.layering.layer].one("Slice") == service.layering.parent
    assert len(layered.plans) > 40


@needs_systemd
@pytest.mark.skipif(version() not in (252, 257, 262), reason="the corpus has no expectations for this systemd")
def test_systemd_gives_the_layer_what_the_service_had(layered: Layered) -> None:
    for unit, service in layered.plans.items():
        assert service.layering is not None
        before, after = layered.before[unit], layered.after[unit]
        layer = layered.after[service.layering.layer]
        for key in COMPARED:
            off = key in LIMITS and layered.cases[unit].one("ask-limits") == "no"
            if key in before.lines and not off and key not in layered.cases[unit].one("ignored").split():
                assert layer.one(key) == before.one(key), f"{key} of {unit}"
        mask = after.one("CGroup own mask").split()
        if service.layering.tracking is Tracking.SERVICE:
            assert "memory" not in mask, unit
        else:
            assert mask == before.one("CGroup own mask").split(), unit
            assert {key: after.lines.get(key) for key in COMPARED} == {key: before.lines.get(key) for key in COMPARED}
        assert "memory" in layer.one("CGroup own mask").split()


@needs_systemd
def test_systemd_understands_every_line_of_ours(layered: Layered) -> None:
    ours = [line for line in layered.talk.splitlines() if ".service.slice:" in line or "zz-cgroup-layering" in line]
    complaints = [line for line in ours if re.search(r"\.(slice|conf):\d+: ", line) and "invalid" not in line]
    # Legacy directives are taken over as they are, and systemd says what it thinks of them.
    assert [
        line for line in complaints if not re.search(r"BlockIO|CPUShares|MemoryLimit|IODevice|IORead|IOWrite", line)
    ] == []
