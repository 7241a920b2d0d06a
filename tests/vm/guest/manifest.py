#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Everything in some folders, as one JSON object: path -> [type, mode, owner, group, content hash or link target]."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterable


def describe(path: str) -> list[str]:
    """What must not change about a file."""
    facts = os.lstat(path)
    content = ""
    if stat.S_ISLNK(facts.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(facts.st_mode):
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
    return [stat.filemode(facts.st_mode)[0], oct(facts.st_mode & 0o7777), str(facts.st_uid), str(facts.st_gid), content]


def manifest(roots: Iterable[str]) -> dict[str, list[str]]:
    """All that is in these folders, by path."""
    found = {}
    for root in roots:
        for folder, names, files in os.walk(root):
            found[folder] = describe(folder)
            for name in names + files:
                path = os.path.join(folder, name)
                found[path] = describe(path)
    return found


if __name__ == "__main__":
    print(json.dumps(manifest(sys.argv[1:])))
