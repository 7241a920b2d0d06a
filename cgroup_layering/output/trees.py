# SPDX-License-Identifier: LGPL-2.1-or-later
"""Trees of domains, layers and instances, for people and for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cgroup_layering.levels import Level, Node
from cgroup_layering.output.tables import coloured, printable
from cgroup_layering.spans import format_size

if TYPE_CHECKING:
    from rich.tree import Tree

_STYLES = {Level.DOMAIN: "bold", Level.LAYER: "", Level.INSTANCE: "dim", Level.UNIT: "dim"}


def show_tree(nodes: Iterable[Node], raw: bool) -> None:
    """Print one tree for each node; sizes in bytes with `raw`."""
    from rich.console import Console

    tty = sys.stdout.isatty()
    # Pipes get whole lines, however long; a terminal gets its own width.
    console = Console(highlight=False, color_system="auto" if coloured() else None, width=None if tty else 4096)
    for node in nodes:
        with console.capture() as capture:
            console.print(_tree(node, raw))
        for line in capture.get().splitlines():
            print(line.rstrip())


def _tree(node: Node, raw: bool) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    found = Tree(Text(_label(node, raw), style=_STYLES[node.level]))
    for child in node.children:
        found.children.append(_tree(child, raw))
    return found


def _label(node: Node, raw: bool) -> str:
    head = f"{node.level} {printable(node.name)}"
    if node.own_bytes is None or node.current_bytes is None:
        return f"{head}: n/a"
    kinds = ", ".join(f"{kind} {_size(size, raw)}" for kind, size in node.own.items() if size)
    itself = f"{_size(node.own_bytes, raw)} itself" + (f" ({kinds})" if kinds else "")
    return f"{head}: {itself}" if not node.children else f"{head}: {_size(node.current_bytes, raw)}, {itself}"


def _size(size: int, raw: bool) -> str:
    return str(size) if raw else format_size(size)


def tree_json(node: Node) -> dict[str, object]:
    """One node and what is below it."""
    return {
        "level": node.level,
        "name": node.name,
        "cgroup": node.cgroup,
        "current_bytes": node.current_bytes,
        "own_bytes": node.own_bytes,
        **{f"own_{kind}_bytes": size for kind, size in node.own.items()},
        "children": [tree_json(child) for child in node.children],
    }
