# SPDX-License-Identifier: LGPL-2.1-or-later
"""python3 -m benchguest.peak FILE ITS-PAGES TREE-PAGES < NAMES: look at all and at the host; print the peak in MiB."""

from __future__ import annotations

import sys

from benchguest.engine import attribute, peak_mib, scan

if __name__ == "__main__":
    scan()
    attribute([sys.argv[1]], int(sys.argv[2]))
    attribute(sys.stdin.read().split("\n"), int(sys.argv[3]))
    print(peak_mib())
