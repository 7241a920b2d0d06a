# SPDX-License-Identifier: LGPL-2.1-or-later
"""/proc/self/pagemap: which page frames back a range of this process's addresses.

Source: Documentation/admin-guide/mm/pagemap.rst. Bits 0-54 are the page frame, bit 63 says present.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cgroup_layering.closing import Closing
from cgroup_layering.errors import KernelFileError, NotPrivileged
from cgroup_layering.kernel.pfnfile import PAGE_SIZE, WORD

if TYPE_CHECKING:
    from numpy.typing import NDArray

PFN_MASK = (1 << 55) - 1
PRESENT = 1 << 63


class PageMap(Closing):
    """The page map of this process. Use it as a context manager."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self.path = proc / "self/pagemap"
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError as error:
            raise NotPrivileged(f"read {self.path}") from error
        except OSError as error:
            raise KernelFileError(self.path, error.strerror or "unknown error") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def words(self, address: int, pages: int) -> NDArray[np.uint64]:
        """The raw words of `pages` pages from `address` (page-aligned) on. Raises KernelFileError."""
        buffer = np.empty(pages, dtype=np.uint64)
        view = buffer.data.cast("B")
        done = 0
        while done < len(view):
            try:
                got = os.preadv(self._fd, [view[done:]], address // PAGE_SIZE * WORD + done)
            except OSError as error:
                raise KernelFileError(self.path, error.strerror or "unknown error") from error
            if got == 0:
                reached = address + done // WORD * PAGE_SIZE
                raise KernelFileError(self.path, f"it ends before address {reached:#x}")
            done += got
        return buffer

    def frames(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The page frames that raw words tell; 0 where nothing is mapped.

        Raises NotPrivileged without CAP_SYS_ADMIN: the kernel then hides every page frame's number.
        """
        present = words >= np.uint64(PRESENT)
        pfns = words & np.uint64(PFN_MASK)
        if not present.all():
            pfns[~present] = 0
        if not pfns.any() and present.any():
            raise NotPrivileged(f"see page frame numbers in {self.path} (CAP_SYS_ADMIN)")
        return pfns

    def pfns(self, address: int, pages: int) -> NDArray[np.uint64]:
        """The page frames of `pages` pages from `address` on; 0 where nothing is mapped. Raises as `frames` does."""
        return self.frames(self.words(address, pages))
