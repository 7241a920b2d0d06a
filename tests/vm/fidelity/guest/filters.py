# SPDX-License-Identifier: LGPL-2.1-or-later
"""Network and device filters that systemd attaches to a service's cgroup."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

from tests.vm.fidelity.guest.kit import Behaviour, Observation, Run, nothing, read, sh

CONNECT = "(echo >/dev/tcp/127.0.0.1/22) 2>/dev/null"
PYTHON = "/usr/bin/python3 -c"
BIND = "import socket; socket.socket().bind((\\'127.0.0.1\\', 18{port}))"


def attempt(unit: str) -> Callable[[Run], Observation]:
    """What a oneshot service could do: `yes` or `no` in a file of its own."""

    def observe(run: Run) -> Observation:
        run.systemctl("start", unit)
        out = Path(f"/run/{run.stem(unit)}.out")
        seen: Observation = {"could": read(out)} | run.state(unit)
        out.unlink(missing_ok=True)
        return seen

    return observe


def no_framework() -> str:
    """Why systemd can't attach its own BPF programs here, or nothing."""
    return "" if "+BPF_FRAMEWORK" in sh("systemctl --version").stdout else "The release's systemd is built without it."


def tried(
    name: str, key: str, lines: str, command: str, could: str, needs: Callable[[], str] = lambda: ""
) -> Behaviour:
    """A oneshot service that tries something."""
    unit = f"{key}-@V@.service"
    script = f"({command} && echo yes || echo no) >/run/%N.out"
    text = f"[Service]\nType=oneshot\n{lines}ExecStart=/bin/bash -c '{script}'\n"
    return Behaviour(name, {unit: text}, attempt(unit), {"could": could, "Result": "success"}, needs=needs)


def counted(run: Run) -> Observation:
    """IPAccounting= counts what the service receives."""
    unit = "ipcount-@V@.service"
    run.systemctl("start", unit)
    shown = run.show(unit, "IPIngressPackets")["IPIngressPackets"]
    run.systemctl("stop", unit)
    return {"counted": shown.isdigit() and int(shown) > 0}


PINNED = Path("/sys/fs/bpf/fidelity-drop")
PROG_LOAD, OBJ_PIN = 5, 6
CGROUP_SKB, EGRESS = 8, 1
DROP = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
"""r0 = 0; exit"""


def prepare() -> None:
    """A pinned bpf program that lets no packet out."""
    if PINNED.exists():
        return
    code, licence, log = (ctypes.create_string_buffer(data) for data in (DROP, b"GPL\0", bytes(4096)))
    at = [ctypes.addressof(buffer) for buffer in (code, licence, log)]
    wanted = struct.pack("<IIQQIIQII16sII", CGROUP_SKB, 2, at[0], at[1], 1, 4096, at[2], 0, 0, b"drop", 0, EGRESS)
    program = bpf(PROG_LOAD, wanted)
    name = ctypes.create_string_buffer(bytes(PINNED))
    bpf(OBJ_PIN, struct.pack("<QII", ctypes.addressof(name), program, 0))
    os.close(program)


def bpf(command: int, wanted: bytes) -> int:
    """bpf(2), which has no wrapper in C's library; 321 is its number on amd64."""
    library = ctypes.CDLL(None, use_errno=True)
    done = int(library.syscall(321, command, ctypes.create_string_buffer(wanted), len(wanted)))
    assert done >= 0, os.strerror(ctypes.get_errno())
    return done


begin = nothing
BEHAVIOURS = [
    tried("Without IPAddressDeny= a connection is made", "ipfree", "", CONNECT, "yes"),
    tried("IPAddressDeny=any", "ipdeny", "IPAddressDeny=any\n", f'timeout 3 bash -c "{CONNECT}"', "no"),
    tried(
        "IPAddressDeny=any with IPAddressAllow=localhost",
        "ipallow",
        "IPAddressDeny=any\nIPAddressAllow=localhost\n",
        CONNECT,
        "yes",
    ),
    tried(
        "RestrictNetworkInterfaces=~lo",
        "iface",
        "RestrictNetworkInterfaces=~lo\n",
        f'timeout 3 bash -c "{CONNECT}"',
        "no",
        no_framework,
    ),
    tried(
        "SocketBindDeny=any",
        "binddeny",
        "SocketBindDeny=any\n",
        f'{PYTHON} "{BIND.format(port=1)}" 2>/dev/null',
        "no",
        no_framework,
    ),
    tried("IPEgressFilterPath=", "ipfilter", f"IPEgressFilterPath={PINNED}\n", f'timeout 3 bash -c "{CONNECT}"', "no"),
    tried("BPFProgram=", "bpfprogram", f"BPFProgram=egress:{PINNED}\n", f'timeout 3 bash -c "{CONNECT}"', "no"),
    tried("Without DeviceAllow= a disk is read", "devfree", "", "head -c 512 /dev/vda >/dev/null", "yes"),
    tried("DevicePolicy=closed", "devclosed", "DevicePolicy=closed\n", "head -c 512 /dev/vda >/dev/null 2>&1", "no"),
    tried(
        "DevicePolicy=closed with DeviceAllow=",
        "devallow",
        "DevicePolicy=closed\nDeviceAllow=/dev/vda r\n",
        "head -c 512 /dev/vda >/dev/null 2>&1",
        "yes",
    ),
    Behaviour(
        "IPAccounting= counts",
        {
            "ipcount-@V@.service": "[Service]\nIPAccounting=yes\n"
            f"ExecStart=/bin/bash -c '{CONNECT}; exec sleep infinity'\nExecStartPost=/usr/bin/sleep 1\n"
        },
        counted,
        {"counted": True},
    ),
]
