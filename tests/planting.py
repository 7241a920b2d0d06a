# SPDX-License-Identifier: LGPL-2.1-or-later
"""Roots of installed systems in miniature, and what they look like afterwards."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from cgroup_layering.host import Reader
from cgroup_layering.model import Host
from cgroup_layering.store import Store

ETC = "etc/systemd/system"
RUN = "run/systemd/system"
LIB = "usr/lib/systemd/system"
SIMPLE = "[Unit]\nDescription=A service\n[Service]\nExecStart=/bin/sleep 1000\n"


def plant(root: Path, files: Mapping[str, str | bytes] | None = None, version: int = 252) -> Path:
    """Make a root with a systemd of that version and the given files, see `put`."""
    library = root / f"usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-{version}.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    library.touch()
    for folder in (ETC, RUN, LIB):
        (root / folder).mkdir(parents=True, exist_ok=True)
    put(root, files or {})
    return root


def put(root: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files and their folders; a text `-> target` makes a link."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith("-> "):
            path.symlink_to(content.removeprefix("-> "))
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


def snapshot(root: Path) -> dict[str, tuple[str, int, int, bytes]]:
    """Everything below `root`: type, mode, owner, and content or target, by path."""
    found = {}
    for path in sorted(root.rglob("*")):
        facts = path.lstat()
        kind = stat.filemode(facts.st_mode)[0]
        content = b""
        if kind == "-":
            content = path.read_bytes()
        elif kind == "l":
            content = str(path.readlink()).encode()
        found[str(path.relative_to(root))] = (kind, stat.S_IMODE(facts.st_mode), facts.st_uid, content)
    return found


def read_root(root: Path, *words: str) -> Host:
    """The services of a root as the tool reads them."""
    return Reader(Store(root), None).read(words)
