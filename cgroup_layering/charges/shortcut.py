# SPDX-License-Identifier: LGPL-2.1-or-later
"""The short way through many small files: looked at inside the kernel, without mapping each.

It takes a moment to prepare, so it is for many files only; and it goes by the types of the kernel, which change: it is
believed only once it said the same about some of the files as the long way (charges.look).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from cgroup_layering.charges.model import FileCharges
from cgroup_layering.charges.openfile import close_all, open_handles
from cgroup_layering.kernel.bpf import BpfUnavailable
from cgroup_layering.kernel.file_walk import FileWalk

AFTER = 64  # files, whose long way takes as long as to load the program
AT_ONCE = 256  # handles, of the 1024 descriptors that a process may have
TRIALS = 8  # batches: files that change meanwhile are no sign of anything
PROOF = 16  # files


class Shortcut:
    """Says what it can about batches of files; the long way has to say the rest."""

    def __init__(self, *, allowed: bool) -> None:
        self._allowed = allowed
        self._passed = 0
        self._trials = TRIALS
        self._walk: FileWalk | None = None
        self._devices: dict[int, int] = {}
        self.is_proven = False

    def walk(self) -> FileWalk | None:
        """The program, loaded at the first call; None if that can't be done."""
        if self._walk is None and self._allowed:
            try:
                self._walk = FileWalk()
            except BpfUnavailable:
                self._allowed = False
        return self._walk

    def close(self) -> None:
        """Unload the program."""
        if self._walk is not None:
            self._walk.close()
            self._walk = None
        self._allowed = False

    def look(self, targets: Sequence[object]) -> list[FileCharges | None]:
        """The charges of each of these files, None for those that it can't tell; empty if it can't be taken."""
        self._passed += len(targets)
        if not self._allowed or self._passed <= AFTER:
            return []
        try:
            names = [os.fspath(target) for target in targets]  # type: ignore[call-overload] # raises TypeError
        except TypeError:
            return []
        walk = self.walk()
        if walk is None:
            return []
        handles = open_handles(names)
        try:
            records = walk.look(handles) if handles else None
        except OSError:
            self._allowed = False
            return []
        finally:
            close_all(handles)
        if records is None:
            return []
        found: list[FileCharges | None] = []
        devices = self._devices
        make = tuple.__new__  # what FileCharges() comes to
        for name, record in zip(names, records.tolist(), strict=True):
            _, passed_over, device, inode, size, first, second, first_pages, second_pages, resident, _ = record
            if passed_over:
                found.append(None)
                continue
            owners = {first: first_pages} if first else {}
            if second:
                owners[second] = second_pages
            if device not in devices:
                devices[device] = os.makedev(device >> 20, device & 0xFFFFF)
            found.append(make(FileCharges, (name, devices[device], inode, size, resident, owners, None, 0)))
        return found

    def compare(self, short: Sequence[FileCharges | None], long: Sequence[FileCharges]) -> None:
        """Believe it from now on if it said the same as the long way about enough files, and nothing else."""
        known = {charges.id: charges for charges in long}
        both = [(one, known[one.id]) for one in short if one is not None and one.id in known]
        charged = sum(1 for _, other in both if other.owners and not other.raced_pages)
        self.is_proven = charged >= PROOF and all(one == other for one, other in both if not other.raced_pages)
        self._trials -= 1
        if not self.is_proven and not self._trials:
            self._allowed = False
