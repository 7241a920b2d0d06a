# SPDX-License-Identifier: LGPL-2.1-or-later
"""Options about how restarts are paced and what stops them."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from typing import Any

import click

from cgroup_layering.cli.options import Writing, apply
from cgroup_layering.cli.words import Span
from cgroup_layering.restarting import Gate


def gate_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--batch, --pause, --health-time, --health-cmd, --max-failures: the argument `gate`; below write_options."""

    @functools.wraps(function)
    def wrapper(
        *args: Any,
        writing: Writing,
        batch: int | None,
        pause: float | None,
        health_time: float | None,
        health_cmd: str | None,
        max_failures: int | None,
        **kwargs: Any,
    ) -> Any:
        gate = gate_of(writing.now, batch, pause, health_time, health_cmd, max_failures)
        return function(*args, writing=writing, gate=gate, **kwargs)

    whole = click.IntRange(min=1)
    return apply(
        wrapper,
        (
            click.option("--batch", type=whole, metavar="N", help="With --now: restart so many services at a time."),
            click.option("--pause", type=Span(), help="With --batch: wait so long between two batches."),
            click.option("--health-time", type=Span(), help="With --now: a service must stay up for so long."),
            click.option("--health-cmd", metavar="COMMAND", help="With --now: run this for each service ($UNIT)."),
            click.option(
                "--max-failures", type=whole, metavar="N", help="With --now: undo this run when so many services fail."
            ),
        ),
    )


def gate_of(
    now: bool,
    batch: int | None = None,
    pause: float | None = None,
    health_time: float | None = None,
    health_cmd: str | None = None,
    max_failures: int | None = None,
) -> Gate:
    """What these options say; `pause` and `health_time` in seconds. Raises UsageError where they make no sense."""
    if not now and any(given is not None for given in (batch, pause, health_time, health_cmd, max_failures)):
        raise click.UsageError("--batch, --pause, --health-time, --health-cmd and --max-failures go with --now.")
    if pause is not None and batch is None:
        raise click.UsageError("--pause is between two batches, so it needs --batch.")
    try:
        command = tuple(shlex.split(health_cmd or ""))
    except ValueError as error:
        raise click.UsageError(f"--health-cmd is no command: {error}.") from error
    if health_cmd is not None and not command:
        raise click.UsageError("--health-cmd is empty.")
    return Gate(batch or 0, pause or 0.0, health_time or 0.0, command, max_failures or 0)
