# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is charged for the pages of open files, by file_charges.bpf.c: a look into page caches inside the kernel.

Takes a third of the time that mapping takes, and some milliseconds to load. Sources: bpf(2) and union
bpf_attr in include/uapi/linux/bpf.h; iterators over one task's files are in Linux 6.1.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cgroup_layering.kernel import bpf_load
from cgroup_layering.kernel.bpf import BpfUnavailable
from cgroup_layering.kernel.pfnfile import PAGE_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROGRAM = Path(__file__).with_name("file_charges.bpf.load")
RECORD = np.dtype(
    [
        ("fd", "u4"), ("passed_over", "u4"), ("device", "u8"), ("inode", "u8"), ("size", "u8"),
        ("first_owner", "u8"), ("second_owner", "u8"), ("first_pages", "u4"), ("second_pages", "u4"),
        ("resident", "u4"), ("mode", "u4"),
    ]
)  # fmt: skip
PIECE_PAGES = 4096  # the most pages of a file that one look tells about
_LINK_CREATE, _ITER_CREATE = 28, 33
_TRACE_ITER = 28


class FileWalk:
    """The program, loaded. Raises BpfUnavailable where that can't be done: there is another way (charges.look)."""

    def __init__(self, program: Path = PROGRAM) -> None:
        if PAGE_SIZE != 4096 or not bpf_load.is_known_machine():
            raise BpfUnavailable("the package's bpf program is for other processors")
        try:
            self._program = bpf_load.load(program)
        except (OSError, struct.error) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise BpfUnavailable(f"{program.name} cannot be loaded: {reason}") from error

    def close(self) -> None:
        """Unload the program."""
        os.close(self._program)

    def look(self, handles: Sequence[int]) -> NDArray[np.void] | None:
        """A record for each of these files, in their order; None if the kernel told less. Raises OSError.

        A file is looked at if it is a handle (O_PATH) of one with no more than PIECE_PAGES, or if `piece` says so.
        """
        # the calling thread's own open files; a thread or a child of another time has others
        task = ctypes.create_string_buffer(struct.pack("=III", threading.get_native_id(), 0, 0), 16)
        where = struct.pack("=IIIIQIIQ", self._program, 0, _TRACE_ITER, 0, ctypes.addressof(task), 16, 0, 0)
        link = bpf_load.call(_LINK_CREATE, where)
        try:
            iterator = bpf_load.call(_ITER_CREATE, struct.pack("=II", link, 0))
        finally:
            os.close(link)
        with os.fdopen(iterator, "rb", buffering=0) as file:
            found = np.frombuffer(file.readall(), dtype=RECORD)
        wanted = np.array(handles, dtype=np.uint32)
        places = np.searchsorted(found["fd"], wanted)
        if not len(found) or places.max(initial=0) >= len(found):
            return None
        records: NDArray[np.void] = found[places]
        return records if bool((records["fd"] == wanted).all()) else None

    def piece(self, fd: int, first_page: int) -> NDArray[np.void] | None:
        """A record of the PIECE_PAGES pages of a file from `first_page` on, a multiple of 64; None as for `look`.

        Moves the place at which `fd` reads, so this has to be the caller's own. Raises OSError.
        """
        os.lseek(fd, first_page * PAGE_SIZE + 1, os.SEEK_SET)
        return self.look([fd])
