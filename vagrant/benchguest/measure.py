# SPDX-License-Identifier: LGPL-2.1-or-later
"""python3 -m benchguest.measure FOLDER [NAME...] prints a JSON line for each measure: {name, unit, ours, peer}.

"Ours" is the engine's call in this process, whose interpreter and imports are up: what starting costs is what
cli.start is about. FOLDER holds page-types and takes the files that are looked at; they are removed at the end.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from benchguest.engine import attribute, scan
from benchguest.making import MIB, make_file, make_tree, pages_in, tree_pages
from benchguest.timing import command, in_turn

BIG, LARGE = 512 * MIB, 256 * MIB
MANY = 10_000
PARTS = 4
RSS_BOUND_MIB = 64.0
Samples = tuple[str, list[float], list[float]]


class Bench:
    """The measures, on files made once."""

    def __init__(self, folder: Path) -> None:
        self.page_types = str(folder / "page-types")
        self.made = folder / "made"
        shutil.rmtree(self.made, ignore_errors=True)
        self.made.mkdir()
        self.big = str(make_file(self.made / "big", BIG))
        self.names = make_tree(self.made / "tree", MANY)

    def host_vs_dd(self) -> Samples:
        words = [command("dd", f"if=/proc/{name}", "of=/dev/null", "bs=1M") for name in ("kpagecgroup", "kpageflags")]
        return "s", *in_turn(scan, lambda: [word() for word in words], 9)

    def host_vs_page_types(self) -> Samples:
        return "s", *in_turn(scan, command(self.page_types, "-C", "-l"), 9)

    def file_vs_page_types(self) -> Samples:
        peer = command(self.page_types, "-f", self.big, "-C", "-l")
        return "s", *in_turn(partial(attribute, [self.big], pages_in(BIG)), peer, 5)

    def tree_vs_fincore(self) -> Samples:
        # one process: the names fit into one command line
        return "s", *in_turn(partial(attribute, self.names, tree_pages(0, MANY)), command("fincore", *self.names), 9)

    def rss(self) -> Samples:
        """A process of its own that scans the host and looks at the big file and the tree."""
        words = [sys.executable, "-m", "benchguest.peak", self.big, str(pages_in(BIG)), str(tree_pages(0, MANY))]
        names = "\n".join(self.names)
        done = [subprocess.run(words, check=True, input=names, text=True, stdout=subprocess.PIPE) for _ in range(3)]
        return "MiB", [float(one.stdout) for one in done], [RSS_BOUND_MIB]

    def growth(self) -> Samples:
        """Microseconds per page of a file and per file of a tree, whole and in four parts: the worse of the two.

        The parts are looked at one after the other, so that the processor's caches see as much either way, and only
        what grows faster than the size makes a difference.
        """

        def each(what: str, items: int, looks: list[Callable[[], None]]) -> Samples:
            whole, *parts = looks
            mine, theirs = in_turn(whole, lambda: [part() for part in parts], 7)
            return f"µs/{what}", [value / items * 1e6 for value in mine], [value / items * 1e6 for value in theirs]

        few = MANY // PARTS
        trees = [(0, MANY), *((first, first + few) for first in range(0, MANY, few))]
        files = each("file", MANY, [partial(attribute, self.names[a:b], tree_pages(a, b)) for a, b in trees])
        Path(self.big).unlink()  # the guest's memory has no room for all of them
        sizes = [LARGE, *(LARGE // PARTS for _ in range(PARTS))]
        made = [(str(make_file(self.made / f"large{n}", size)), pages_in(size)) for n, size in enumerate(sizes)]
        pages = each("page", pages_in(LARGE), [partial(attribute, [path], count) for path, count in made])
        for path, _ in made:
            Path(path).unlink()
        self.big = str(make_file(self.made / "big", BIG))
        return max(pages, files, key=lambda samples: median(samples[1]) / median(samples[2]))

    def start(self) -> Samples:
        ours = command("cgroup-layering", "--help")
        return "s", *in_turn(ours, command("/usr/bin/python3", "-c", "import click"), 9)


MEASURES: dict[str, Callable[[Bench], Samples]] = {
    "charges.host.vs-dd": Bench.host_vs_dd,
    "charges.host.vs-page-types": Bench.host_vs_page_types,
    "charges.file.vs-page-types": Bench.file_vs_page_types,
    "charges.tree.vs-fincore": Bench.tree_vs_fincore,
    "charges.rss": Bench.rss,
    "charges.growth": Bench.growth,
    "cli.start": Bench.start,
}


def main(folder: Path, names: list[str]) -> None:
    """Measure and print, one after the other."""
    bench = Bench(folder.resolve())
    try:
        for name in names or MEASURES:
            unit, ours, peer = MEASURES[name](bench)
            print(json.dumps({"name": name, "unit": unit, "ours": ours, "peer": peer}), flush=True)
    finally:
        shutil.rmtree(bench.made)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
