# SPDX-License-Identifier: LGPL-2.1-or-later
"""What rehoming did, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from cgroup_layering.output.tables import Output
from cgroup_layering.spans import format_size

if TYPE_CHECKING:
    from cgroup_layering.rehoming.choice import Left
    from cgroup_layering.rehoming.rehome import Rehomed


def rehomed_json(rehomed: Sequence[Rehomed]) -> dict[str, object]:
    """The key `rehomed`, or none where nothing was asked for."""
    return {"rehomed": [{**asdict(one)} for one in rehomed]} if rehomed else {}


def show_rehomed(rehomed: Sequence[Rehomed], page_bytes: int, output: Output) -> None:
    """The table of `rehome`."""

    def size(pages: int) -> str:
        return format_size(pages * page_bytes)

    rows = (
        (
            one.unit, size(one.stray_pages_before), size(one.stray_pages_after), format_size(one.reread_bytes),
            format_size(one.copied_bytes), size(one.resident_pages_before), size(one.resident_pages_after),
            _left(one.left, page_bytes),
        )
        for one in rehomed
    )  # fmt: skip
    headers = ("UNIT", ">STRAYS", ">AFTER", ">RE-READ", ">COPIED", ">IN MEMORY", ">AFTER", "STILL OUTSIDE")
    output.table(headers, rows)
    tell_rehomed(rehomed, output, sums=False)


def _left(left: Mapping[Left, int], page_bytes: int) -> str:
    ordered = sorted(left.items(), key=lambda item: -item[1])
    return ", ".join(f"{format_size(pages * page_bytes)} {reason}" for reason, pages in ordered if pages)


def tell_rehomed(rehomed: Sequence[Rehomed], output: Output, sums: bool = True) -> None:
    """Say in sentences what was done and what could not be."""
    if rehomed and sums and output.json == "off":
        read = sum(one.reread_bytes for one in rehomed)
        before = sum(one.stray_pages_before for one in rehomed)
        after = sum(one.stray_pages_after for one in rehomed)
        output.say(
            f"Rehomed {len(rehomed)} services: {before} stray pages before, {after} after, "
            f"{format_size(read)} read again."
        )
    for one in rehomed:
        if one.maps_outside:
            output.say(
                f"{one.unit}: {one.maps_outside} bpf maps are charged elsewhere and can't be rehomed; "
                "a map is charged to whoever makes it, so it has to be made again."
            )
        for problem in one.problems:
            output.complain(f"{one.unit}: {problem}")
