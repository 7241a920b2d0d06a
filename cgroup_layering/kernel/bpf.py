# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpf maps: which there are, and the cgroup that the kernel charges each to. And how bpf programs of ours are loaded.

The owner comes from map_charges.bpf.c, an iterator that runs in the kernel; bpftool(8) loads it and lists the maps.
Compiled programs are looked for beside this module alone, where the Debian package has it: who can put a file there can
change this module too, so root loads nothing that it doesn't run already.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cgroup_layering.errors import CgroupLayeringError

PROGRAM = Path(__file__).with_name("map_charges.bpf.o")
BPFFS = Path("/sys/fs/bpf")
BTF = Path("/sys/kernel/btf/vmlinux")
MOUNTS = Path("/proc/self/mounts")
# Not the caller's PATH: ordinary users' lacks sbin, and root's should not decide what is run here.
TOOL_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
TIMEOUT_SECONDS = 60.0
_RECORD = struct.Struct("=QQ")
_AS_ROOT = "Run it as root, for example with sudo."


class BpfUnavailable(CgroupLayeringError):
    """The bpf maps of this host cannot be looked at: something is missing, or bpftool failed."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason, hint)
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"Cannot see who pays for bpf maps: {self.reason}."


def check(
    program: Path = PROGRAM,
    *,
    btf: Path = BTF,
    mounts: Path = MOUNTS,
    tool_path: str = TOOL_PATH,
    euid: int | None = None,
    byteorder: str = sys.byteorder,
) -> None:
    """Whether all is here that reading needs. Raises BpfUnavailable for the first thing that is missing."""
    if (os.geteuid() if euid is None else euid) != 0:
        raise BpfUnavailable("root rights are needed", _AS_ROOT)
    _tool(tool_path)
    if byteorder != "little":
        raise BpfUnavailable("the package's bpf program is for little-endian processors")
    if not program.is_file():
        raise BpfUnavailable(
            f"{program} is missing, which is made when the Debian package is built",
            "Run cgroup-layering as installed from its Debian package.",
        )
    if not btf.is_file():
        raise BpfUnavailable(
            f"the kernel does not describe its types: there is no {btf}", "Boot one of Debian's kernels."
        )
    # bpftool would mount it: looking must not change the host.
    if not _bpffs_is_mounted(mounts):
        raise BpfUnavailable(f"no bpf file system is mounted at {BPFFS}", f"Mount it: mount -t bpf bpf {BPFFS}")


def _bpffs_is_mounted(mounts: Path) -> bool:
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise BpfUnavailable(f"{mounts} cannot be read: {error.strerror}") from error
    # device, folder, type ...; the last mount at a folder is the one that is seen
    kinds = [fields[2] for fields in map(str.split, lines) if len(fields) > 2 and fields[1] == str(BPFFS)]
    return kinds[-1:] == ["bpf"]


def _tool(tool_path: str) -> str:
    tool = shutil.which("bpftool", path=tool_path)
    if tool is None:
        raise BpfUnavailable("bpftool is not installed", "Install it: apt install bpftool")
    return tool


def _bpftool(tool: str, *words: str) -> str:
    """The output of bpftool(8). Raises BpfUnavailable with the reason that it gives, or if it hangs."""
    command = f"`bpftool {words[0]} {words[1]}`"
    try:
        done = subprocess.run(
            [tool, "--json", "--nomount", *words],
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise BpfUnavailable(f"{command} did not end within {TIMEOUT_SECONDS:.0f} s") from error
    except OSError as error:
        raise BpfUnavailable(f"{tool} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        raise BpfUnavailable(
            f"{command} failed: {failure(done.stdout, done.stderr)}",
            f"It says more when it is run by hand: {shlex.join([tool, *words])}",
        )
    return done.stdout


def bpftool(*words: str) -> str:
    """The output of `bpftool --json WORDS`, mounting nothing. Raises BpfUnavailable."""
    return _bpftool(_tool(TOOL_PATH), *words)


@contextlib.contextmanager
def pinned(program: Path, *words: str) -> Iterator[Path]:
    """What `bpftool WORDS PROGRAM` makes of a program, under a name that is gone afterwards. Raises BpfUnavailable."""
    # A dot is not allowed in names there; the random part keeps others from taking the name first.
    pin = BPFFS / f"cgroup-layering-{secrets.token_hex(8)}"
    try:
        _bpftool(_tool(TOOL_PATH), *words, str(program), str(pin))
        yield pin
    finally:
        pin.unlink(missing_ok=True)


def failure(out: str, err: str) -> str:
    """What bpftool gives as the reason: {"error": ...} on stdout with --json, else the last line on stderr. Pure."""
    try:
        reason = json.loads(out)["error"]
    except (ValueError, KeyError, TypeError):
        reason = (err.strip().splitlines() or ["it gave no reason"])[-1]
    return str(reason).strip().rstrip(".")


def parse_records(data: bytes) -> dict[int, int]:
    """What the program writes: owners (inode numbers of cgroups, 0: none) by map id. Pure. Raises BpfUnavailable."""
    if len(data) % _RECORD.size:
        raise BpfUnavailable(f"the bpf program wrote {len(data)} bytes, which is no whole number of records")
    return dict(_RECORD.iter_unpack(data))


def map_owners() -> dict[int, int]:
    """The cgroup that each map's memory is charged to, as the inode number of its folder, by map id; 0 is none.

    If that cgroup has gone it is the closest ancestor that is still there. What was made by a process in the root
    cgroup, or by the kernel, is charged to none. Raises BpfUnavailable.
    """
    check()
    try:
        with pinned(PROGRAM, "iter", "pin") as pin:
            descriptor = os.open(pin, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            return parse_records(file.readall())
    except OSError as error:
        raise BpfUnavailable(f"{BPFFS}: {error.strerror}") from error


def list_maps() -> list[dict[str, Any]]:
    """What `bpftool map show` says of each map, with pins; see bpftool-map(8). Raises BpfUnavailable."""
    if os.geteuid() != 0:
        raise BpfUnavailable("root rights are needed", _AS_ROOT)
    text = _bpftool(_tool(TOOL_PATH), "--bpffs", "map", "show")
    try:
        found = json.loads(text or "[]")
    except ValueError as error:
        raise BpfUnavailable("`bpftool map show` printed what is no JSON") from error
    # Without maps it prints an empty list or nothing; an object is an error.
    if not isinstance(found, list):
        raise BpfUnavailable(f"`bpftool map show` failed: {failure(text, '')}")
    return found
