# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rows as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchlib.rows import BOUNDS, Row

_FOOTNOTE = (
    "Medians of several runs in one VM, ours and the peer in turn. Ours is the engine's call in one process whose\n"
    "interpreter and imports are up; what starting costs is cli.start. In an emulated VM only ratios mean anything."
)


def show(rows: Sequence[Row], suite: str) -> None:
    """Print the table on standard output."""
    table = Table(title=f"Speed and size on {suite}", title_justify="left", caption=_FOOTNOTE, caption_justify="left")
    for header in ("measure", "peer"):
        table.add_column(header)
    for header in ("ours", "peer's", "unit", "ratio", "bound"):
        table.add_column(header, justify="left" if header == "unit" else "right")
    table.add_column("")
    for row in rows:
        figures = (f"{row.ours:.3g}", f"{row.peer:.3g}", row.unit, f"{row.ratio:.2f}", f"≤ {row.bound:.2f}")
        table.add_row(row.name, BOUNDS[row.name].peer, *figures, "✓ ok" if row.ok else "✗ not ok")
    # a log file has no width of its own, and cut-off figures are of no use
    console = Console()
    Console(width=max(console.width, 150) if not console.is_terminal else None, highlight=False).print(table)
