# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which files belong to a unit, in which order: by hand, and as systemd finds them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_layering.unitpaths import LOOKUP, below, drop_in_folders, drop_ins, fragment, is_masked, lookup_dirs
from tests.systemd_offline import EXEC, load, needs_systemd

FOLDERS = {
    "a.service": ["a.service.d"],
    "a-b-c.service": ["a-b-c.service.d", "a-b-.service.d", "a-.service.d"],
    "a-b@x.service": [
        "a-b@x.service.d",
        "a-b@.service.d",
        "a-.service.d",
        "a-@x.service.d",
        "a-@.service.d",
    ],
    "a@.service": ["a@.service.d"],
    "-a.service": ["-a.service.d"],
}


@pytest.mark.parametrize(("unit", "expected"), FOLDERS.items())
def test_folders_of_a_unit(unit: str, expected: list[str]) -> None:
    folders = drop_in_folders([unit], [Path("/x")])
    assert [folder.name for folder in folders] == [*expected, "service.d"]
    assert {folder.parent for folder in folders} == {Path("/x")}


def test_folders_of_aliases_and_their_order() -> None:
    folders = drop_in_folders(["a.service", "b.service"], [Path("/1"), Path("/2")])
    assert [str(folder) for folder in folders] == [
        "/1/a.service.d",
        "/2/a.service.d",
        "/1/b.service.d",
        "/2/b.service.d",
        "/1/service.d",
        "/2/service.d",
    ]


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("[Service]\nX=y\n")


def test_drop_ins_apply_in_the_order_of_their_names(tmp_path: Path) -> None:
    put(tmp_path, "2/a.service.d/10.conf", "1/a.service.d/z.conf", "1/service.d/5.conf", "1/a.service.d/B.conf")
    found = drop_ins(["a.service"], [tmp_path / "1", tmp_path / "2"])
    assert [path.name for path in found] == ["10.conf", "5.conf", "B.conf", "z.conf"]


def test_an_earlier_folder_wins_a_name(tmp_path: Path) -> None:
    put(tmp_path, "1/service.d/x.conf", "2/a.service.d/x.conf", "1/a-.service.d/y.conf", "2/a-b.service.d/y.conf")
    dirs = [tmp_path / "1", tmp_path / "2"]
    assert drop_ins(["a.service"], dirs) == (tmp_path / "2/a.service.d/x.conf",)
    # The folder of the load path counts before the length of the prefix.
    assert tmp_path / "1/a-.service.d/y.conf" in drop_ins(["a-b.service"], dirs)


@pytest.mark.parametrize("mask", ["link", "empty", "link to empty"])
def test_a_mask_hides_the_name_everywhere(tmp_path: Path, mask: str) -> None:
    put(tmp_path, "2/a.service.d/x.conf", "2/a.service.d/y.conf", "1/a.service.d/other")
    hidden = tmp_path / "1/a.service.d/x.conf"
    if mask == "link":
        hidden.symlink_to("/dev/null")
    elif mask == "empty":
        hidden.touch()
    else:
        (tmp_path / "nothing").touch()
        hidden.symlink_to(tmp_path / "nothing")
    assert drop_ins(["a.service"], [tmp_path / "1", tmp_path / "2"]) == (tmp_path / "2/a.service.d/y.conf",)


def test_only_conf_files_are_drop_ins(tmp_path: Path) -> None:
    put(tmp_path, *(f"a.service.d/{name}" for name in ("x.conf~", ".x.conf", "x", "x.conf.bak", "ok.conf")))
    assert [path.name for path in drop_ins(["a.service"], [tmp_path])] == ["ok.conf"]


def test_a_dangling_drop_in_is_no_error(tmp_path: Path) -> None:
    put(tmp_path, "a.service.d/x.conf")
    (tmp_path / "a.service.d/y.conf").symlink_to("nowhere")
    assert [path.name for path in drop_ins(["a.service"], [tmp_path])] == ["x.conf"]


def test_masked_units(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    put(tmp_path, "2/null.service", "2/empty.service", "2/plain.service", "1/above.service", "1/x")
    (one / "null.service").symlink_to("/dev/null")
    (one / "empty.service").touch()
    (two / "above.service").symlink_to("/dev/null")
    masked = {
        name for name in ("null", "empty", "plain", "above", "absent") if is_masked(f"{name}.service", [one, two])
    }
    assert masked == {"null", "empty"}


def test_fragments(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    put(tmp_path, "1/t@.service", "2/t@.service", "2/t@own.service", "2/a.service", "1/x")
    (one / "a.service").symlink_to("b.service")
    assert fragment("a.service", [one, two]) == one / "a.service"
    assert fragment("t@x.service", [one, two]) == one / "t@.service"
    assert fragment("t@own.service", [one, two]) == two / "t@own.service"
    assert fragment("absent.service", [one, two]) is None


def test_lookup_dirs_below_a_root(tmp_path: Path) -> None:
    for name in ("etc/systemd/system", "usr/lib/systemd/system", "run/systemd/generator"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "run/systemd/transient").write_text("no folder")
    dirs = lookup_dirs(tmp_path)
    assert dirs == tuple(
        tmp_path / name for name in ("etc/systemd/system", "run/systemd/generator", "usr/lib/systemd/system")
    )
    assert below(tmp_path, Path("/etc/x")) == tmp_path / "etc/x"


def test_the_load_path_has_systemds_order() -> None:
    order = [str(path) for path in LOOKUP]
    # Each of these would change which file wins if it moved.
    for first, second in (
        ("/etc/systemd/system.control", "/run/systemd/transient"),
        ("/run/systemd/transient", "/etc/systemd/system"),
        ("/etc/systemd/system", "/run/systemd/system"),
        ("/run/systemd/system", "/run/systemd/generator"),
        ("/run/systemd/generator", "/usr/lib/systemd/system"),
        ("/usr/local/lib/systemd/system", "/usr/lib/systemd/system"),
        ("/lib/systemd/system", "/run/systemd/generator.late"),
    ):
        assert order.index(first) < order.index(second)


UNITS = ("a.service", "a-b.service", "a-b-c.service", "a-b@x-y.service", "t@x.service")
PLACES = st.tuples(
    st.sampled_from(("1", "2", "3")),
    st.sampled_from(
        (
            *("a.service.d", "a-.service.d", "a-b.service.d", "a-b-.service.d", "a-b-c.service.d", "service.d"),
            *("a-b@.service.d", "a-b@x-y.service.d", "a-@.service.d", "a-@x-y.service.d", "t@.service.d"),
            *("t@x.service.d", "al.service.d"),
        )
    ),
    st.sampled_from(("10.conf", "9.conf", "z.conf", "~.conf", "Z.conf", "é.conf", "x.conf.bak", ".h.conf")),
    st.sampled_from(("file", "file", "file", "null")),
)


@needs_systemd
@settings(max_examples=15, deadline=None)
@given(st.lists(PLACES, min_size=5, max_size=40, unique_by=lambda place: place[:3]))
def test_systemd_finds_the_same_drop_ins(places: list[tuple[str, str, str, str]]) -> None:
    with TemporaryDirectory() as folder:
        dirs = [Path(folder) / name for name in ("1", "2", "3")]
        for path in dirs:
            path.mkdir()
        for unit in ("a.service", "a-b.service", "a-b-c.service", "a-b@.service", "t@.service"):
            (dirs[2] / unit).write_text(EXEC)
        (dirs[1] / "al.service").symlink_to("../3/a.service")
        for place, sub, name, kind in places:
            path = Path(folder) / place / sub / name
            path.parent.mkdir(exist_ok=True)
            if kind == "file":
                path.write_text("[Service]\nNice=1\n")
            else:
                path.symlink_to("/dev/null")
        found, talk = load(dirs, UNITS)
        for unit in UNITS:
            names = ("a.service", "al.service") if unit == "a.service" else (unit,)
            # systemd lists masks too; they have nothing to say.
            theirs = [path for path in found[unit].paths("DropIn Path") if not path.is_symlink()]
            assert theirs == list(drop_ins(names, dirs)), talk
