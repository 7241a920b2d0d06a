# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules in the files that are loaded at boot: they count before they are loaded.

A path in such a file is looked up when it is loaded; where there is no such cgroup by then, loading fails.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from cgroup_layering.model import PathRule
from cgroup_layering.pathrules import iptables
from cgroup_layering.pathrules.files import Files
from cgroup_layering.pathrules.nfttext import NftText

NFTABLES = PurePosixPath("/etc/nftables.conf")
INCLUDE_FOLDER = PurePosixPath("/etc")
"""Where nft looks for what an include names by a relative path (nft(8), INCLUDE FILES)."""
IPTABLES = tuple(PurePosixPath(path) for path in ("/etc/iptables/*", "/etc/ufw/*.rules"))
"""What netfilter-persistent and ufw load."""
_FILES_LIMIT = 512
_OF_INTEREST = re.compile(r"cgroup|include|\.(?:slice|service|scope)")


class _Reader:
    def __init__(self, files: Files) -> None:
        self.files = files
        self.seen: set[PurePosixPath] = set()
        self.unseen: list[str] = []
        self.nft = NftText(self._include)
        self._at: list[PurePosixPath] = []

    def nftables(self, path: PurePosixPath) -> None:
        """One file and what it includes, each once."""
        text = self.text(path)
        # A list of a million addresses is not read word by word.
        if text is not None and _OF_INTEREST.search(text):
            self._at.append(path)
            self.nft.read(text, str(path))
            self._at.pop()

    def text(self, path: PurePosixPath) -> str | None:
        """The text of a file that was not read before."""
        if path in self.seen or len(self.seen) >= _FILES_LIMIT:
            return None
        self.seen.add(path)
        try:
            return self.files.read(path)
        except OSError as error:
            self.unseen.append(f"{path} could not be looked at for rules on cgroups: {error.strerror}.")
            return None

    def matching(self, pattern: PurePosixPath) -> list[PurePosixPath]:
        """The files that a pattern stands for."""
        try:
            return self.files.matching(pattern)
        except OSError as error:
            self.unseen.append(f"{pattern} could not be looked at for rules on cgroups: {error.strerror}.")
            return []

    def _include(self, pattern: str) -> None:
        # Relative ones are below /etc or, with newer releases, beside the file.
        for folder in (INCLUDE_FOLDER, self._at[-1].parent):
            for path in self.matching(folder / pattern):
                self.nftables(path)


def saved_rules(files: Files) -> tuple[tuple[PathRule, ...], tuple[str, ...]]:
    """The rules in configuration files, and sentences on what could not be read."""
    reader = _Reader(files)
    for path in reader.matching(NFTABLES):
        reader.nftables(path)
    found = list(reader.nft.resolved())
    for pattern in IPTABLES:
        for path in reader.matching(pattern):
            text = reader.text(path)
            if text is not None and "--path" in text:
                found.extend(iptables.parse(text, file=str(path)))
    return tuple(found), tuple(reader.unseen)
