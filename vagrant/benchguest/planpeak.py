# SPDX-License-Identifier: LGPL-2.1-or-later
"""python3 -m benchguest.planpeak: be `cgroup-layering plan`, then print the peak of its memory in MiB on stderr."""

from __future__ import annotations

import sys

from benchguest.engine import peak_mib
from cgroup_layering import __main__ as program

if __name__ == "__main__":
    sys.argv = ["cgroup-layering", "plan", "--quiet"]
    try:
        program.main()
    except SystemExit as end:
        if end.code:
            raise
    print(peak_mib(), file=sys.stderr)
