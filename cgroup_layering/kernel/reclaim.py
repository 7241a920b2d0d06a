# SPDX-License-Identifier: LGPL-2.1-or-later
"""One write to memory.reclaim that ends in time.

Such a write comes back when the bytes are reclaimed or nothing more can be, which can take minutes where memory goes
to a slow swap device. Between two batches the kernel looks for a signal and gives up with EINTR (mm/memcontrol.c,
`memory_reclaim`; mm/vmscan.c, `user_proactive_reclaim`, of later kernels). So a timer's signal ends it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time

_AGAIN = 0.25
"""Seconds to the next signal: one that comes just before the write begins ends nothing."""


class TimeIsUp(Exception):
    """The write was cut off; what was reclaimed until then stays so."""


def reclaim(descriptor: int, request: str, seconds: float) -> None:
    """Write `request`, such as `16777216 swappiness=0`, for at most `seconds`. Main thread only.

    Raises TimeIsUp, and OSError as write(2) does: EAGAIN where less was reclaimed, EINVAL for an unknown key, ENODEV
    where the cgroup is gone.
    """
    if seconds <= 0:
        raise TimeIsUp
    data = request.encode()
    # Not os.write(): that begins anew after a signal (PEP 475).
    libc = ctypes.CDLL(None, use_errno=True)
    end = time.monotonic() + seconds
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
        while libc.write(descriptor, data, len(data)) < 0:
            number = ctypes.get_errno()
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))
            # A signal other than ours, such as a stopped job's SIGCONT, is no reason to end.
            if time.monotonic() >= end:
                raise TimeIsUp
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
