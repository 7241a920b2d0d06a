# SPDX-License-Identifier: LGPL-2.1-or-later
"""What files alone say of a service, compared with what systemd reads in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cgroup_layering.errors import HostUnsuitable
from cgroup_layering.model import ServiceFacts
from cgroup_layering.offline import (
    aliases_of,
    enabled_instances,
    installed_version,
    is_true,
    parent_slice,
    service_facts,
    specifiers,
)
from cgroup_layering.unitfile import UnitFiles, parse, resolve
from tests.planting import plant
from tests.systemd_offline import EXEC, load, needs_systemd

HERE = Path("/etc/systemd/system/hello.service")


def files(text: str) -> UnitFiles:
    return UnitFiles(parse(text, HERE))


def facts(text: str, unit: str = "hello.service") -> ServiceFacts:
    return service_facts(unit, (unit,), [(HERE, parse(text, HERE))])


BOOLEANS = {"1": True, "yes": True, "Y": True, "true": True, "T": True, "ON": True, "oN": True}
BOOLEANS |= {"0": False, "no": False, "N": False, "False": False, "f": False, "off": False}


@pytest.mark.parametrize(("word", "value"), BOOLEANS.items())
def test_booleans(word: str, value: bool) -> None:
    assert is_true(word) is value
    assert is_true(None, value) is value


UNITS = ("hello.service", "a-b@c-d.service", r"a\x2db@c\x2dd.service", "long-dash-name.service", "t@x@y.service")
LETTERS = "nNpPiIjJ"


@needs_systemd
def test_specifiers_are_systemds(tmp_path: Path) -> None:
    text = "[Unit]\nDescription=" + "|".join(f"%{letter}" for letter in LETTERS) + "|%%\n" + EXEC
    for unit in UNITS:
        (tmp_path / unit).write_text(text)
    found, _ = load([tmp_path], UNITS)
    for unit in UNITS:
        value = resolve("|".join(f"%{letter}" for letter in LETTERS) + "|%%", specifiers(unit))
        assert value == found[unit].one("Description")


SLICES = {
    "": None,
    "Slice=a-b.slice": "a-b.slice",
    "Slice=a.slice\nSlice=b.slice": "b.slice",
    "Slice=-.slice": "-.slice",
    "Slice=a.slice\nSlice=": "a.slice",
    "Slice=a.slice\nSlice=b.service": "a.slice",
    "Slice=a.slice\nSlice=b@c.slice": "a.slice",
    "Slice=a.slice\nSlice=é.slice": "a.slice",
    "Slice=a.slice\nSlice=" + "x" * 250 + ".slice": "a.slice",
    "Slice=%p.slice": "t.slice",
    "Slice=app-%i.slice": "app-x.slice",
    "Slice=a.slice\nSlice=b-%n.slice": "a.slice",
    "Slice=a.slice # comment": None,
}


@pytest.mark.parametrize(("text", "expected"), SLICES.items())
def test_parent_slice(text: str, expected: str | None) -> None:
    assert parent_slice("t@x.service", files(EXEC + text)) == (expected or "system-t.slice")


@needs_systemd
def test_systemd_takes_the_same_slices(tmp_path: Path) -> None:
    units = {f"t{index}@x.service": (text, value) for index, (text, value) in enumerate(SLICES.items())}
    for unit, (text, _) in units.items():
        (tmp_path / unit.replace("@x", "@")).write_text(EXEC + text + "\n")
    found, _ = load([tmp_path], units)
    for unit, (text, _) in units.items():
        assert found[unit].one("Slice") == parent_slice(unit, files(EXEC + text)), text


SETTINGS = {
    "": {},
    "Type=forking": {"type": "forking"},
    "BusName=a.b": {"type": "dbus"},
    "RemainAfterExit=on": {"remain_after_exit": True},
    "KillMode=process": {"kill_mode": "process"},
    "KillMode=mixed\nKillMode=none": {"kill_mode": "none"},
    "SendSIGKILL=no": {"send_sigkill": False},
    "Delegate=yes": {
        "delegate": True,
        "delegate_controllers": frozenset(("cpu", "cpuset", "io", "memory", "pids")),
        "oom_policy": "continue",
    },
    "Delegate=no": {},
    "Delegate=off": {},
    "Delegate=pids cpu": {
        "delegate": True,
        "delegate_controllers": frozenset(("cpu", "pids")),
        "oom_policy": "continue",
    },
    "OOMPolicy=kill": {"oom_policy": "kill"},
    "Delegate=yes\nOOMPolicy=stop": {
        "delegate": True,
        "delegate_controllers": frozenset(("cpu", "cpuset", "io", "memory", "pids")),
    },
    "StandardInput=tty-force\nTTYPath=/dev/tty1": {"standard_input": "tty-force", "tty_path": "/dev/tty1"},
    "[Unit]\nDefaultDependencies=no": {"default_dependencies": False},
    "[Unit]\nRefuseManualStart=1": {"refuse_manual_start": True},
    "[Unit]\nRefuseManualStop=y": {"refuse_manual_stop": True},
    "[Unit]\nIgnoreOnIsolate=t": {"ignore_on_isolate": True},
    "[Unit]\nSurviveFinalKillSignal=yes": {"survive_final_kill": True},
}


@pytest.mark.parametrize(("text", "changed"), SETTINGS.items())
def test_facts(text: str, changed: dict[str, object]) -> None:
    plain, found = facts(EXEC), facts(EXEC + text)
    names = [name for name in ServiceFacts.__slots__ if name != "files"]
    assert {n: getattr(found, n) for n in names if getattr(found, n) != getattr(plain, n)} == changed


def test_a_service_without_exec_start_is_a_oneshot() -> None:
    assert facts("[Service]\nExecStop=/bin/true\n").type == "oneshot"


DUMPED: dict[str, Callable[[ServiceFacts], str]] = {
    "Type": lambda f: f.type,
    "RemainAfterExit": lambda f: "yes" if f.remain_after_exit else "no",
    "KillMode": lambda f: f.kill_mode,
    "SendSIGKILL": lambda f: "yes" if f.send_sigkill else "no",
    "OOMPolicy": lambda f: f.oom_policy,
    "StandardInput": lambda f: f.standard_input,
    "DefaultDependencies": lambda f: "yes" if f.default_dependencies else "no",
    "RefuseManualStart": lambda f: "yes" if f.refuse_manual_start else "no",
    "RefuseManualStop": lambda f: "yes" if f.refuse_manual_stop else "no",
    "IgnoreOnIsolate": lambda f: "yes" if f.ignore_on_isolate else "no",
}


@needs_systemd
def test_systemd_sees_the_same_facts(tmp_path: Path) -> None:
    units = {f"t{index}.service": text for index, text in enumerate(SETTINGS)}
    for unit, text in units.items():
        (tmp_path / unit).write_text(EXEC + text + "\n")
    found, _ = load([tmp_path], units)
    for unit, text in units.items():
        said = facts(EXEC + text)
        assert {key: found[unit].one(key) for key in DUMPED} == {key: get(said) for key, get in DUMPED.items()}, text
        assert ("memory" in found[unit].lines.get("CGroup delegate mask", [""])[0]) == (
            "memory" in said.delegate_controllers
        )


def test_aliases(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    for folder in (one, two):
        folder.mkdir()
    (two / "real.service").write_text(EXEC)
    (two / "t@.service").write_text(EXEC)
    (one / "alias.service").symlink_to("/usr/lib/systemd/system/real.service")
    (one / "second.service").symlink_to("alias.service")
    (one / "t@x.service").symlink_to("../2/t@.service")
    (one / "masked.service").symlink_to("/dev/null")
    (one / "hidden.service").write_text(EXEC)
    (two / "hidden.service").symlink_to("real.service")
    (one / "a.service").symlink_to("b.service")
    (one / "b.service").symlink_to("a.service")
    names = [path.name for folder in (one, two) for path in folder.iterdir()]
    found = aliases_of(names, [one, two])
    # A loop has no primary name; that it ends is all that can be asked.
    assert {name: found[name] for name in found if name not in ("a.service", "b.service")} == {
        "alias.service": "real.service",
        "second.service": "real.service",
    }


def test_enabled_instances(tmp_path: Path) -> None:
    for name in ("multi-user.target.wants", "x.service.requires", "other.d"):
        (tmp_path / name).mkdir()
    (tmp_path / "multi-user.target.wants/t@1.service").symlink_to("/usr/lib/systemd/system/t@.service")
    (tmp_path / "multi-user.target.wants/plain.service").symlink_to("../plain.service")
    (tmp_path / "x.service.requires/t@2.service").symlink_to("../t@.service")
    (tmp_path / "x.service.requires/t@.service").symlink_to("../t@.service")
    (tmp_path / "x.service.requires/t@3.socket").symlink_to("../t@.socket")
    (tmp_path / "other.d/t@4.service").symlink_to("../t@.service")
    (tmp_path / "file.wants").write_text("")
    assert enabled_instances([tmp_path]) == {"t@1.service", "t@2.service"}


@pytest.mark.parametrize(
    ("library", "version"),
    [
        ("usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so", 252),
        ("usr/lib/systemd/libsystemd-shared-257.13-1~deb13u1.so", 257),
        ("usr/lib/aarch64-linux-gnu/systemd/libsystemd-shared-262.so", 262),
        ("lib/systemd/libsystemd-shared-254.so", 254),
    ],
)
def test_installed_version(tmp_path: Path, library: str, version: int) -> None:
    (tmp_path / library).parent.mkdir(parents=True)
    (tmp_path / library).touch()
    assert installed_version(tmp_path) == version


@pytest.mark.parametrize("name", ["libsystemd-shared-.so", "libsystemd-shared-x.so", "libsystemd.so.0"])
def test_a_root_without_systemd(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "usr/lib/systemd"
    folder.mkdir(parents=True)
    (folder / name).touch()
    with pytest.raises(HostUnsuitable, match=f"no systemd below {tmp_path}"):
        installed_version(tmp_path)


def test_planted_roots_have_a_version(tmp_path: Path) -> None:
    assert installed_version(plant(tmp_path, version=257)) == 257
