# SPDX-License-Identifier: LGPL-2.1-or-later
"""The results as a table: with rich if it is there, plain text if not."""

from __future__ import annotations

from collections.abc import Sequence

from demolib.runs import RESTARTS, Result

_HEADER = ("", "1st instance", f"after {RESTARTS} restarts, plain", f"after {RESTARTS} restarts, layered", "")
_RELEASES = {"bookworm": "Debian 12", "trixie": "Debian 13", "forky": "Debian 14 (forky)"}


def show(results: Sequence[Result]) -> None:
    """Print both tables on standard output: bytes charged, and who pays for the pages."""
    charged = [
        (
            f"{_RELEASES.get(result.suite, result.suite)}, systemd {result.systemd}, Linux {result.kernel}",
            _megabytes(result.plain.first_bytes),
            _megabytes(result.plain.after_bytes),
            _megabytes(result.layered.after_bytes),
            "✓ shown" if result.shown else "✗ not shown",
        )
        for result in results
    ]
    _print("Charged to the service itself: page cache + tmpfs + bpf map", _HEADER, charged)
    pages = [
        (result.suite, name, path, cgroup, str(count))
        for result in results
        for name, run in (("plain", result.plain), ("layered", result.layered))
        for path, owners in run.owners.items()
        for cgroup, count in sorted(owners.items(), key=lambda item: -item[1])
    ]
    _print(f"Who pays, page by page, after {RESTARTS} restarts", ("", "", "file", "cgroup", "pages"), pages)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _print(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        _print_plainly(title, header, rows)
        return
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if rows and rows[0][number][:1].isdigit() else "left")
    for row in rows:
        table.add_row(*row)
    # a log file has no width of its own, and cut-off figures are of no use
    console = Console()
    Console(width=max(console.width, 150) if not console.is_terminal else None, highlight=False).print(table)


def _print_plainly(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    print(title)
    for row in (header, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()
