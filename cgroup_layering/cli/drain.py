# SPDX-License-Identifier: LGPL-2.1-or-later
"""`drain`: reclaim the memory of a layer."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from cgroup_layering.cli.lifetime import NoLayer
from cgroup_layering.cli.options import Span, output_options, units_argument
from cgroup_layering.cli.session import Session
from cgroup_layering.errors import ExitCode
from cgroup_layering.lifetime.drain import Drained, Stopped, drain
from cgroup_layering.naming import slice_path
from cgroup_layering.output.progress import draining
from cgroup_layering.output.tables import Output
from cgroup_layering.spans import format_size, parse_size


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
    session = Session(action="reclaim memory", write=True)
    host = session.read(units, follow_aliases=True)
    layers = {}
    for unit, facts in host.services.items():
        if facts.own is None or not session.fs.exists(slice_path(facts.own.layer)):
            raise NoLayer(unit)
        layers[unit] = facts.own.layer
    found: dict[str, Drained] = {}
    for unit, layer in layers.items():
        with draining(layer, output.quiet) as progress:
            found[unit] = drain(
                session.fs, slice_path(layer), floor_bytes=floor, seconds=timeout, swap=swap, progress=progress
            )
    if output.json != "off":
        output.document(
            {"layers": [{"unit": unit, "layer": layers[unit], **asdict(one)} for unit, one in found.items()]}
        )
    else:
        rows = [(unit, *_row(one)) for unit, one in found.items()]
        output.table(("UNIT", ">BEFORE", ">AFTER", ">SWAP", ">RECLAIMED", "END"), rows)
    reached = all(one.stopped is Stopped.DONE for one in found.values())
    return ExitCode.OK if reached or not floor else ExitCode.FAILURE


def _row(one: Drained) -> tuple[str, ...]:
    sizes = (one.before_bytes, one.after_bytes, one.swap_after_bytes, one.reclaimed_bytes)
    return (*(format_size(size) for size in sizes), one.stopped)
