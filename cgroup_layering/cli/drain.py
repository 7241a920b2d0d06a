# SPDX-License-Identifier: LGPL-2.1-or-later
"""`drain`: reclaim the memory of a layer."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from cgroup_layering.cli.lifetime import NoLayer
from cgroup_layering.cli.options import output_options, units_argument
from cgroup_layering.cli.session import Session
from cgroup_layering.cli.words import Span
from cgroup_layering.errors import ExitCode
from cgroup_layering.lifetime.drain import Drained, Stopped, drain, left
from cgroup_layering.naming import slice_path
from cgroup_layering.output.progress import draining
from cgroup_layering.output.tables import Output
from cgroup_layering.spans import format_size, parse_size

SHOWN_BYTES = 64 << 10
"""What is less is not worth a word."""


class Size(click.ParamType):
    """A size in systemd's syntax, in bytes."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes."""
        if isinstance(value, int):
            return value
        try:
            size = parse_size(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        if size is None:
            self.fail("it must be a number of bytes.", param, ctx)
        return size


@click.command("drain")
@units_argument(required=True)
@click.option("--to", "floor", type=Size(), default=0, help="Leave that much; 0 by default.")
@click.option("--swap", is_flag=True, help="Also push anonymous memory and tmpfs out to swap.")
@click.option("--timeout", type=Span(), default=60.0, show_default="1min", help="How long it may take.")
@output_options
def command(units: tuple[str, ...], floor: int, swap: bool, timeout: float, output: Output) -> int:
    """Reclaim the memory of layers, whether their services run or not.

    Only what can be had again is given up: cached pages, and with --swap memory that goes to swap.
    """
    session = Session(action="reclaim memory", write=True, lock=False)
    host = session.read(units, follow_aliases=True)
    layers = {}
    for unit, facts in host.services.items():
        if facts.own is None or not session.fs.exists(slice_path(facts.own.layer)):
            raise NoLayer(unit)
        layers[unit] = facts.own.layer
    found: dict[str, Drained] = {}
    kinds: dict[str, dict[str, int]] = {}
    for unit, layer in layers.items():
        with draining(layer, output.quiet) as progress:
            found[unit] = drain(
                session.fs, slice_path(layer), floor_bytes=floor, seconds=timeout, swap=swap, progress=progress
            )
        if found[unit].stopped is not Stopped.GONE:
            kinds[unit] = left(session.fs, slice_path(layer))
    if output.json != "off":
        rows = [
            {"unit": unit, "layer": layers[unit], **asdict(one), "left": kinds.get(unit)} for unit, one in found.items()
        ]
        output.document({"layers": rows})
    else:
        cells = [(unit, *_row(one)) for unit, one in found.items()]
        output.table(("UNIT", ">BEFORE", ">AFTER", ">SWAP", ">RECLAIMED", "END"), cells)
        for unit, kind in kinds.items():
            held = ", ".join(f"{format_size(size)} {name}" for name, size in kind.items() if size >= SHOWN_BYTES)
            if held and found[unit].stopped is not Stopped.DONE:
                output.say(f"{layers[unit]} still holds {held}.")
    reached = all(one.stopped is Stopped.DONE for one in found.values())
    return ExitCode.OK if reached or not floor else ExitCode.FAILURE


def _row(one: Drained) -> tuple[str, ...]:
    sizes = (one.before_bytes, one.after_bytes, one.swap_after_bytes, one.reclaimed_bytes)
    return (*(format_size(size) for size in sizes), one.stopped)
