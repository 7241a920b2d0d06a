# SPDX-License-Identifier: LGPL-2.1-or-later
"""A progress bar on stderr for restarts; lines of text where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cgroup_layering.moving import Progress


@contextmanager
def restarts(quiet: bool) -> Iterator[Progress]:
    """Give a callback that shows how many services are done."""
    if quiet:
        yield lambda _done, _total, _unit: None
        return
    if not sys.stderr.isatty():
        last = -1

        def line(done: int, total: int, _unit: str) -> None:
            nonlocal last
            if done != last:
                last = done
                print(f"{done} of {total} services done", file=sys.stderr)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("Restarting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, unit: bar.update(task, completed=done, total=total, description=unit)


@contextmanager
def naming(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a callback that shows how many pages have a name; on a terminal only, as no step of it is worth a line."""
    if quiet or not sys.stderr.isatty():
        yield lambda _named, _all: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("Looking for names of"), BarColumn(), TextColumn("{task.completed:.0f} pages"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda named, total: bar.update(task, completed=named, total=total)


@contextmanager
def draining(layer: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a callback that shows how many bytes of a layer are still charged; on a terminal only."""
    if quiet or not sys.stderr.isatty():
        yield lambda _now, _start: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(f"Draining {layer}"), BarColumn(), DownloadColumn(binary_units=True))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda now, start: bar.update(task, completed=start - now, total=start)
