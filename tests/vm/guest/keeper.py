#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A service with a file of 64 MiB, 32 MiB on a tmpfs and a bpf map of 16 MiB, which it adopts where they are already.

keeper.py setup makes the files, and leaves nothing of them in memory; keeper.py run is the service.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

MIB = 1 << 20
DATA = Path("/var/lib/keeper/data")
SEED = Path("/var/lib/keeper/seed/cache")
CACHE = Path("/run/keeper/cache")
PIN = Path("/sys/fs/bpf/keeper")


def write(path: Path, size: int) -> None:
    """A file without holes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(b"keep" * (MIB // 4))


def main(verb: str) -> None:
    """One of the two."""
    if verb == "setup":
        write(DATA, 64 * MIB)
        write(SEED, 32 * MIB)
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
        return
    with DATA.open("rb", buffering=0) as file:
        buffer = bytearray(MIB)
        while file.readinto(buffer):
            pass
    if not CACHE.exists():
        write(CACHE, 32 * MIB)
    if not PIN.exists():
        words = ["type", "array", "key", "4", "value", "4096", "entries", "4096", "name", "keeper"]
        subprocess.run(["/usr/sbin/bpftool", "map", "create", str(PIN), *words], check=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        address = os.environ["NOTIFY_SOCKET"]
        notify.sendto(b"READY=1", "\0" + address[1:] if address[0] == "@" else address)
    os.execv("/usr/bin/sleep", ["sleep", "infinity"])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1])
