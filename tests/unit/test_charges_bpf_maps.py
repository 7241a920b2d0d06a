# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpf maps: what bpftool, the bpf program and /proc print, as seen on Linux 7.2, and all that can be missing."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from cgroup_layering.charges.bpf_maps import BpfMap, map_holders, parse_maps
from cgroup_layering.kernel import bpf
from cgroup_layering.kernel.bpf import BpfUnavailable, check, failure, parse_records

# `bpftool --json --nomount --bpffs map show`; systemd-networkd holds 12, 13 and 15, systemd 10, and a pin 30
SHOWN = (
    '[{"id":10,"type":"hash_of_maps","name":"cgroup_hash","flags":0,"bytes_key":8,"bytes_value":4,"max_entries":2048,'
    '"bytes_memlock":164752,"frozen":0,"pinned":[]},'
    '{"id":15,"type":"array","name":".rodata.str1.1","flags":128,"bytes_key":4,"bytes_value":5,"max_entries":1,'
    '"bytes_memlock":312,"frozen":1,"pinned":[]},'
    '{"id":12,"type":"cgroup_array","name":"cgroup_map","flags":0,"bytes_key":4,"bytes_value":4,"max_entries":1,'
    '"bytes_memlock":312,"frozen":0,"pinned":[]},'
    '{"id":30,"type":"array","name":"hello_map","flags":0,"bytes_key":4,"bytes_value":4096,"max_entries":4096,'
    '"bytes_memlock":16777520,"frozen":0,"pinned":["/sys/fs/bpf/hello_map"]}]'
)
OWNERS = {10: 0, 12: 1782, 13: 1782, 15: 1782, 30: 3439}
FDINFO = (
    "pos:\t0\nflags:\t02000002\nmnt_id:\t19\nino:\t1049\nmap_type:\t8\nkey_size:\t4\nvalue_size:\t4\nmax_entries:\t1\n"
    "map_flags:\t0x0\nmap_extra:\t0x0\nmemlock:\t312\nmap_id:\t12\nfrozen:\t0\n"
)


def test_records_of_the_program() -> None:
    assert parse_records(struct.pack("=8Q", 10, 0, 12, 1782, 15, 1782, 30, 3439)) == {
        10: 0,
        12: 1782,
        15: 1782,
        30: 3439,
    }
    assert parse_records(b"") == {}


def test_half_a_record_is_refused() -> None:
    with pytest.raises(BpfUnavailable, match="wrote 24 bytes"):
        parse_records(bytes(24))


def test_maps_are_put_together_by_id() -> None:
    maps = parse_maps(json.loads(SHOWN), OWNERS, {10: {1}, 12: {273}, 15: {512, 273}})
    assert maps == (
        BpfMap(10, "cgroup_hash", "hash_of_maps", 164752, 0, (), (1,)),
        BpfMap(12, "cgroup_map", "cgroup_array", 312, 1782, (), (273,)),
        BpfMap(15, ".rodata.str1.1", "array", 312, 1782, (), (273, 512)),
        BpfMap(30, "hello_map", "array", 16777520, 3439, (Path("/sys/fs/bpf/hello_map"),), ()),
    )


def test_maps_that_came_or_went_between_the_readings_are_left_out() -> None:
    # 13 has an owner and is not shown; 30 is shown and has no owner
    owners = {key: OWNERS[key] for key in (10, 12, 13, 15)}
    assert [one.id for one in parse_maps(json.loads(SHOWN), owners, {})] == [10, 12, 15]


def test_a_map_without_a_name_and_of_an_unknown_type() -> None:
    (one,) = parse_maps([{"id": 7, "type": 99, "flags": 0}], {7: 5}, {})
    assert one == BpfMap(7, "", "99", 0, 5, (), ())


def test_holders_are_found_by_their_descriptors(tmp_path: Path) -> None:
    for pid, name, target, text in (
        (273, "23", "anon_inode:bpf-map", FDINFO),
        (273, "24", "anon_inode:bpf-map", FDINFO),
        (1, "9", "anon_inode:bpf-map", FDINFO.replace("map_id:\t12", "map_id:\t10")),
        (1, "3", "anon_inode:bpf-prog", FDINFO),
        (512, "4", "anon_inode:bpf-map", FDINFO),
    ):
        for folder in ("fd", "fdinfo"):
            (tmp_path / str(pid) / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / str(pid) / "fd" / name).symlink_to(target)
        (tmp_path / str(pid) / "fdinfo" / name).write_text(text)
    (tmp_path / "273" / "fd" / "30").symlink_to("anon_inode:bpf-map")  # closed before its fdinfo was read
    (tmp_path / "600").mkdir()  # ended
    assert map_holders(tmp_path) == {12: {273, 512}, 10: {1}}


@pytest.mark.parametrize(
    ("out", "err", "reason"),
    [
        (
            '{"error":"can\'t load objfile o.o"}\n',
            "libbpf: Failed to bump RLIMIT_MEMLOCK (err = -EPERM), you might need to do it explicitly!\n",
            "can't load objfile o.o",
        ),
        (
            '\n\n{"error":"no BPF file system found, not mounting it due to --nomount option"}\n',
            "",
            "no BPF file system found, not mounting it due to --nomount option",
        ),
        ("null", "libbpf: one line\nError: the last.\n", "Error: the last"),
        ("[]", "", "it gave no reason"),
    ],
)
def test_the_reason_of_bpftool(out: str, err: str, reason: str) -> None:
    assert failure(out, err) == reason


def tool(folder: Path, script: str) -> str:
    path = folder / "bpftool"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_tool_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(BpfUnavailable) as caught:
        bpf._bpftool(tool(tmp_path, 'echo \'{"error":"bad object"}\'; exit 255'), "iter", "pin", "a b", "c")
    assert str(caught.value) == "Cannot see who pays for bpf maps: `bpftool iter pin` failed: bad object."
    assert caught.value.hint == f"It says more when it is run by hand: {tmp_path}/bpftool iter pin 'a b' c"


def test_a_tool_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(BpfUnavailable, match=r"`bpftool map show` did not end within 0 s\."):
        bpf._bpftool(tool(tmp_path, "exec sleep 60"), "map", "show")


MOUNT = "bpf /sys/fs/bpf bpf rw,nosuid,nodev,noexec,relatime,mode=700 0 0\n"


@pytest.fixture
def host(tmp_path: Path) -> dict[str, Any]:
    """What check() is given where nothing is missing."""
    for name, text in (("program.o", ""), ("btf", ""), ("mounts", f"proc /proc proc rw 0 0\n{MOUNT}")):
        (tmp_path / name).write_text(text)
    tool(tmp_path, "exit 1")
    return {
        "program": tmp_path / "program.o",
        "btf": tmp_path / "btf",
        "mounts": tmp_path / "mounts",
        "tool_path": str(tmp_path),
        "euid": 0,
        "byteorder": "little",
    }


def test_nothing_is_missing(host: dict[str, Any]) -> None:
    check(**host)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"euid": 1000}, "root rights are needed."),
        ({"tool_path": "/absent"}, "bpftool is not installed."),
        ({"byteorder": "big"}, "the package's bpf program is for little-endian processors."),
        ({"program": Path("/absent.o")}, "/absent.o is missing, which is made when the Debian package is built."),
        ({"btf": Path("/absent")}, "the kernel does not describe its types: there is no /absent."),
        ({"mounts": Path("/absent")}, "/absent cannot be read: No such file or directory."),
    ],
)
def test_what_is_missing_is_one_sentence(host: dict[str, Any], change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BpfUnavailable) as caught:
        check(**host | change)
    assert str(caught.value) == f"Cannot see who pays for bpf maps: {sentence}"


@pytest.mark.parametrize("mounts", ["", "bpf /mnt bpf rw 0 0\n", f"{MOUNT}none /sys/fs/bpf tmpfs rw 0 0\n"])
def test_a_bpf_file_system_has_to_be_on_top(host: dict[str, Any], mounts: str) -> None:
    host["mounts"].write_text(mounts)
    with pytest.raises(BpfUnavailable, match="no bpf file system is mounted at /sys/fs/bpf"):
        check(**host)
