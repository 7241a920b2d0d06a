# SPDX-License-Identifier: LGPL-2.1-or-later
"""What runs inside the layer: evict files, let the service start, and read them back in, so that the layer pays.

Started as a transient unit of Type=notify, ordered before the service: a service that is being restarted stops, this
evicts what nobody maps any more, says READY=1, and the service starts while the rest is read in beside it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from cgroup_layering.charges.openfile import UnreadableFile, open_regular
from cgroup_layering.rehoming.cache import Stretch, evict, pages, refill
from cgroup_layering.rehoming.tmpfs import recopy

ORDER = "order.json"
REPORT = "report.json"
WAITING = "waiting"
"""Made when the worker is up: only then is the service stopped, so that it isn't down while Python starts."""
POLL = 0.02


class Vanished(UnreadableFile):
    """The file that was meant is not there any more."""


def main(folder: Path) -> None:
    """Carry out the order in `folder` and leave a report there. Nothing that happens to one file stops the others."""
    order = json.loads((folder / ORDER).read_text())
    (folder / WAITING).touch()
    stopped = _wait_until_empty(order["wait_for"], order["wait_seconds"])
    report: dict[str, Any] = {"stopped": stopped, "problems": [], "vanished": 0}

    def note(file: dict[str, Any], error: OSError | UnreadableFile) -> None:
        # Services replace files when they stop: those that are gone have nothing in memory any more.
        if isinstance(error, Vanished | FileNotFoundError):
            report["vanished"] += 1
        else:
            report["problems"].append(str(error) if isinstance(error, UnreadableFile) else f"{file['path']}: {error}")

    evicted: list[tuple[dict[str, Any], list[Stretch]]] = []
    before = dropped = 0
    for file in order["files"]:
        try:
            fd, size = _open(file)
            try:
                found = evict(fd, size)
            finally:
                os.close(fd)
        except (OSError, UnreadableFile) as error:
            note(file, error)
            continue
        before += pages(found.before)
        dropped += pages(found.gone)
        evicted.append((file, found.gone))
    copied = 0
    for file in order["tmpfs"] if stopped else []:
        try:
            copied += recopy(Path(file["path"]), (file["device"], file["inode"]))
        except (OSError, UnreadableFile) as error:
            note(file, error)
    _notify_ready()
    read = 0
    for file, stretches in evicted:
        try:
            fd, _size = _open(file)
            try:
                read += refill(fd, stretches)
            finally:
                os.close(fd)
        except (OSError, UnreadableFile) as error:
            note(file, error)
    report |= {"resident_pages": before, "evicted_pages": dropped, "reread_bytes": read, "copied_bytes": copied}
    draft = folder / f"{REPORT}.new"
    draft.write_text(json.dumps(report))
    draft.rename(folder / REPORT)


def _open(file: dict[str, Any]) -> tuple[int, int]:
    """The file that was meant and no other that took its name, and its size in bytes."""
    try:
        fd = open_regular(file["path"])
    except UnreadableFile as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise Vanished(file["path"], error.reason) from error
        raise
    status = os.fstat(fd)
    if (status.st_dev, status.st_ino) != (file["device"], file["inode"]):
        os.close(fd)
        raise Vanished(file["path"], "another file has taken its place meanwhile")
    return fd, status.st_size


def _wait_until_empty(cgroup: str, seconds: float) -> bool:
    """Wait until no process is left in a cgroup's folder, or it is gone; whether that came about."""
    if not cgroup:
        return True
    deadline = time.monotonic() + seconds
    events = Path(cgroup) / "cgroup.events"
    while True:
        try:
            if "populated 0" in events.read_text():
                return True
        except OSError:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)


def _notify_ready() -> None:
    """sd_notify(3)."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if name:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect("\0" + name[1:] if name.startswith("@") else name)
            channel.sendall(b"READY=1")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
