# SPDX-License-Identifier: LGPL-2.1-or-later
"""bpf(2), and bpf programs that load themselves: without bpftool and a pin, in milliseconds.

debian/bpf-loader makes such a file from a compiled program when the package is built: a program for the kernel's bpf
machine (BPF_PROG_TYPE_SYSCALL) that makes the calls of a loader, and the data it needs. The kernel itself then looks up
its types (CO-RE, since Linux 5.17). Sources: bpf_load_and_run() in tools/lib/bpf/skel_internal.h and union bpf_attr in
include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from pathlib import Path

_SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361}
_MAP_CREATE, _MAP_UPDATE, _PROG_LOAD, _PROG_RUN = 0, 2, 5, 10
_MAP_ARRAY, _PROG_SYSCALL = 2, 31
_SLEEPABLE = 1 << 4
_HEADER = struct.Struct("<II")  # bytes of data, bytes of instructions
_CONTEXT = struct.Struct("=IIIIQi4x")  # struct bpf_loader_ctx with the one struct bpf_prog_desc behind it
_INSTRUCTION = 8
_RETVAL = 4  # where the program's own result is in the attributes of BPF_PROG_RUN

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def is_known_machine() -> bool:
    """Whether programs in these files are for this processor, and the number of the system call is known."""
    return platform.machine() in _SYS_BPF and sys.byteorder == "little"


def call(command: int, attributes: bytes) -> int:
    """bpf(2). Raises OSError."""
    return _call(command, ctypes.create_string_buffer(attributes, len(attributes)))


def _call(command: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
    number = ctypes.c_long(_SYS_BPF[platform.machine()])
    result = int(_libc.syscall(number, ctypes.c_int(command), buffer, ctypes.c_uint(len(buffer))))
    if result < 0:
        raise _failure(ctypes.get_errno())
    return result


def _failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def load(path: Path) -> int:
    """Load the one program of a file; out: its descriptor, which the caller closes. Raises OSError."""
    raw = path.read_bytes()
    data_bytes, code_bytes = _HEADER.unpack_from(raw)
    data = ctypes.create_string_buffer(raw[_HEADER.size : _HEADER.size + data_bytes], data_bytes)
    code = ctypes.create_string_buffer(raw[_HEADER.size + data_bytes :], code_bytes)
    blob = call(_MAP_CREATE, struct.pack("=IIIIIII16s4x", _MAP_ARRAY, 4, data_bytes, 1, 0, 0, 0, b"__loader.map"))
    try:
        key = ctypes.c_uint32(0)
        call(_MAP_UPDATE, struct.pack("=I4xQQQ", blob, ctypes.addressof(key), ctypes.addressof(data), 0))
        loader = _load_loader(code, blob)
        try:
            return _run(loader)
        finally:
            os.close(loader)
    finally:
        os.close(blob)


def _load_loader(code: ctypes.Array[ctypes.c_char], blob: int) -> int:
    licence = ctypes.create_string_buffer(b"Dual BSD/GPL")
    descriptors = ctypes.c_int(blob)
    attributes = struct.pack(
        "=IIQQIIQII16s56xQ",
        *(_PROG_SYSCALL, len(code) // _INSTRUCTION, ctypes.addressof(code), ctypes.addressof(licence)),
        *(0, 0, 0),  # no log
        *(0, _SLEEPABLE, b"__loader.prog"),
        ctypes.addressof(descriptors),  # fd_array, behind what tells of types
    )
    return call(_PROG_LOAD, attributes)


def _run(loader: int) -> int:
    context = ctypes.create_string_buffer(_CONTEXT.size)
    size = _CONTEXT.size - 4  # without what only fills it up
    struct.pack_into("=I", context, 0, size)
    attributes = struct.pack("=IIIIQQIIIIQQ", loader, 0, 0, 0, 0, 0, 0, 0, size, 0, ctypes.addressof(context), 0)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    _call(_PROG_RUN, buffer)
    (result,) = struct.unpack_from("=i", buffer, _RETVAL)
    if result < 0:
        raise _failure(-result)
    return int(_CONTEXT.unpack(context.raw)[-1])
