# SPDX-License-Identifier: LGPL-2.1-or-later
"""page-types, which no Debian package ships: built from Debian's own kernel source, kept in the user's cache folder.

python3 -m benchlib.peers prints where it is.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from lablib.paths import cache
from lablib.run import lock, logged, say

_RECIPE = Path(__file__).resolve().parent / "build-page-types"


def page_types() -> Path:
    """A page-types linked statically, so that it runs in every guest; built if there is none. Raises LabError."""
    key = hashlib.sha256(_RECIPE.read_bytes()).hexdigest()[:12]
    program = cache() / "peers" / f"page-types-{key}"
    with lock("peers"):
        if not program.exists():
            say("build page-types from linux-source: a download of some 140 MB, once", "bench")
            program.parent.mkdir(parents=True, exist_ok=True)
            logged([str(_RECIPE), str(program)], "page-types")
    return program


if __name__ == "__main__":
    print(page_types())
