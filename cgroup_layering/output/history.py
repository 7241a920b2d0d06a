# SPDX-License-Identifier: LGPL-2.1-or-later
"""The instances of a service, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from cgroup_layering.history import Instance, Now
from cgroup_layering.output.tables import Output
from cgroup_layering.spans import format_size, format_span

_NONE = "-"
_HEADERS = ("STARTED", "ENDED", "RESULT", ">CPU", ">READ", ">WRITTEN", ">PEAK", ">LEFT")


def show(unit: str, rows: Sequence[Instance], raw: bool, output: Output) -> None:
    """The table, the oldest first, and what it can't tell."""
    cells = (
        (
            _time(one.started_usec),
            "runs" if one.live else _time(one.ended_usec),
            one.result or _NONE,
            _NONE if one.cpu_nsec is None else format_span(one.cpu_nsec / 1e9),
            *(_size(size, raw) for size in (one.io_read_bytes, one.io_write_bytes, one.memory_peak_bytes)),
            _left(one, raw),
        )
        for one in rows
    )
    output.table(_HEADERS, cells, f"{len(rows)} instances.")
    if not rows:
        output.say(f"The journal tells of no instance of {unit}.")
    silent = sum(not one.recorded and not one.live for one in rows)
    if silent:
        output.say(
            f"systemd did not record what {silent} of them used: it leaves out what is little, unless its log level is "
            "debug."
        )
    for why in dict.fromkeys(one.left_why for one in rows if one.left_why and not one.live):
        output.say(why)


def _time(usec: int | None) -> str:
    return _NONE if usec is None else f"{datetime.fromtimestamp(usec / 1e6):%Y-%m-%d %H:%M:%S}"


def _size(size: int | None, raw: bool) -> str:
    return _NONE if size is None else str(size) if raw else format_size(size)


def _left(one: Instance, raw: bool) -> str:
    """What it left; where only a bound is known, that."""
    if one.left_bytes is None and one.left_at_most_bytes is not None:
        return f"<={_size(one.left_at_most_bytes, raw)}"
    return _size(one.left_bytes, raw)


def as_json(unit: str, now: Now, rows: Sequence[Instance]) -> dict[str, object]:
    """The document."""
    return {
        "unit": unit,
        "layered": now.layered,
        "layer_since_usec": now.layer_since_usec,
        "outlived_bytes": now.outlived_bytes,
        "instances": [
            {**asdict(one), "left_at_most_bytes": one.left_at_most_bytes, "left_why": one.left_why or None}
            for one in rows
        ],
    }
