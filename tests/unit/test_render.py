# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two files of a layering, to the letter, and that what they say can be read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_layering import own, render
from cgroup_layering.model import Lifted, Tracking
from cgroup_layering.unitfile import UnitFiles, parse
from cgroup_layering.unitpaths import ETC
from tests.layerings import layering
from tests.systemd_offline import EXEC, load, needs_systemd

SLICE = """\
# SPDX-License-Identifier: LGPL-2.1-or-later
# Written by cgroup-layering 0.1: the layer of hello.service.
# It keeps the charges of the service when its instances come and go. Do not edit: changes are not kept.
# To undo: cgroup-layering disable 'hello.service'

[Unit]
Description=Layer of hello.service
Documentation=man:cgroup-layering(8)
DefaultDependencies=no

[Slice]
MemoryAccounting=yes
ManagedOOMPreference=omit

[X-CgroupLayering]
Unit=hello.service
Tracking=instance
Lifetime=installed
Migration=20260801T120000Z-0123abcd
Version=0.1
FolderCreated=yes
"""
DROP_IN = """\
# Written by cgroup-layering 0.1: hello.service runs inside its layer.
# Do not edit: changes are not kept. To undo: cgroup-layering disable 'hello.service'

[Service]
Slice=system-hello.service.slice

[X-CgroupLayering]
Unit=hello.service
Migration=20260801T120000Z-0123abcd
"""


def body(text: str) -> str:
    """A file without what is only a header."""
    return text.partition("SPDX-License-Identifier: LGPL-2.1-or-later\n")[2] or text


def test_a_plain_layering_to_the_letter() -> None:
    assert body(render.slice_text(layering())) == body(SLICE)
    assert render.drop_in_text(layering()) == DROP_IN


def test_a_full_layering() -> None:
    said = layering(
        tracking=Tracking.SERVICE,
        lifted=(Lifted("MemoryMax", "1G", "/etc/a:3"), Lifted("IODeviceWeight", "/dev/a 5", "/etc/b:4")),
        resets=(("MemoryAccounting", "no"), ("MemoryMax", "infinity")),
        survive_final_kill=True,
        ignore_on_isolate=True,
        folder_created=False,
    )
    text = render.slice_text(said)
    assert "DefaultDependencies=no\nSurviveFinalKillSignal=yes\nIgnoreOnIsolate=yes\n\n[Slice]\n" in text
    assert (
        "ManagedOOMPreference=omit\n# from /etc/a:3\nMemoryMax=1G\n# from /etc/b:4\nIODeviceWeight=/dev/a 5\n\n" in text
    )
    assert "\nTracking=service\n" in text and text.endswith("FolderCreated=no\n")
    assert "Slice=system-hello.service.slice\n# Tracking" in render.drop_in_text(said)
    assert "\nMemoryAccounting=no\nMemoryMax=infinity\n\n[X-" in render.drop_in_text(said)


@pytest.mark.parametrize("path", ["/etc/a\n[Slice]\nMemoryMax=1", "/etc/\udcff\x1b[31m", "/etc/a\0b", "/etc/a\rb"])
def test_a_hostile_file_name_stays_in_its_comment(path: str) -> None:
    text = render.slice_text(layering(lifted=(Lifted("CPUWeight", "5", f"{path}:1"),)))
    text.encode()
    files = UnitFiles(parse(text, Path("/x")))
    assert [(s.key, s.value) for s in files.settings if s.section == "Slice"] == [
        ("MemoryAccounting", "yes"),
        ("ManagedOOMPreference", "omit"),
        ("CPUWeight", "5"),
    ]


UNITS = st.sampled_from(("hello.service", r"a\x2db@c\x2dd.service", "postgresql@17-main.service", ".dot.service"))


@settings(max_examples=60, deadline=None)
@given(UNITS, st.sampled_from(("system.slice", "-.slice", "a-b.slice")), st.sampled_from(Tracking), st.booleans())
def test_what_is_written_can_be_read_back(unit: str, parent: str, tracking: Tracking, created: bool) -> None:
    said = layering(unit, parent, tracking=tracking, folder_created=created, lifetime="boot", version="9.9~rc1")
    path = ETC / said.layer
    drop_in = render.drop_in_text(said)
    found = own.read_back(path, render.slice_text(said), drop_in)
    assert found is not None and found.complete
    assert (found.unit, found.layer, found.tracking, found.lifetime) == (unit, said.layer, tracking, "boot")
    assert (found.migration, found.version, found.folder_created) == (said.migration, "9.9~rc1", created)
    assert found.drop_in == ETC / f"{unit}.d" / "zz-cgroup-layering.conf"
    assert own.is_ours(drop_in, found.drop_in) and own.is_ours(found.slice_text, path)
    assert own.without_ours(parse(drop_in, found.drop_in)) == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("system-hello.service.slice", "[Slice]\nMemoryMax=1G\n"),
        ("system-hello.service.slice", SLICE.replace("[X-CgroupLayering]", "[X-Other]")),
        ("system-hello.service.slice", SLICE.replace("Unit=hello", "# Unit=hello")),
        ("system-other.service.slice", SLICE),
        ("system-hello.slice", SLICE),
        ("hello.service", SLICE),
        ("system-hello.service.slice", ""),
    ],
)
def test_what_is_not_ours(name: str, text: str) -> None:
    assert own.read_back(ETC / name, text, None) is None


def test_an_edited_section_is_read_with_care() -> None:
    text = SLICE.replace("Tracking=instance", "Tracking=both").replace("Lifetime=installed\n", "")
    found = own.read_back(ETC / "system-hello.service.slice", text, None)
    assert found is not None and not found.complete
    assert (found.tracking, found.lifetime) == (Tracking.INSTANCE, "")


def test_a_foreign_file_that_mentions_us() -> None:
    assert not own.is_ours("# Unit=x\n[Service]\nUnit=x\n# [X-CgroupLayering]\n", Path("/x"))


@needs_systemd
@pytest.mark.parametrize("unit", ["hello.service", r"a\x2db@c\x2dd.service"])
def test_systemd_takes_both_files(tmp_path: Path, unit: str) -> None:
    said = layering(
        unit, lifted=(Lifted("MemoryMax", "64M", "/x:1"), Lifted("CPUWeight", "7", "/x:2")), ignore_on_isolate=True
    )
    (tmp_path / unit).write_text(EXEC)
    (tmp_path / said.layer).write_text(render.slice_text(said))
    drop_in = own.drop_in_path(tmp_path, unit)
    drop_in.parent.mkdir()
    drop_in.write_text(render.drop_in_text(said))
    found, talk = load([tmp_path], [unit, said.layer])
    assert found[unit].one("Slice") == said.layer
    layer = found[said.layer]
    assert layer.one("Slice") == "system.slice" and layer.one("DefaultDependencies") == "no"
    assert layer.one("MemoryMax") == str(64 << 20) and layer.one("CPUWeight") == "7"
    assert layer.one("IgnoreOnIsolate") == "yes" and layer.one("ManagedOOMPreference") == "omit"
    assert "Unknown" not in talk and "ignoring" not in talk.replace("PID 1, ignoring", "")
