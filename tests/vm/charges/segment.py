#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in the guest: makes 3 MiB of System V shared memory and ends, so that no process has it attached.

Its id goes to the standard output; `ipcrm -m` removes it.
"""

from __future__ import annotations

import ctypes

BYTES = 3 << 20
IPC_PRIVATE, IPC_CREAT = 0, 0o1000

libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
segment = libc.shmget(IPC_PRIVATE, BYTES, IPC_CREAT | 0o600)
ctypes.memset(libc.shmat(segment, None, 0), 1, BYTES)
print(segment)
