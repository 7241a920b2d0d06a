# SPDX-License-Identifier: LGPL-2.1-or-later
"""Options that several verbs share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from cgroup_layering.asked import Asked
from cgroup_layering.cli.words import Span, UnitOrPlanWord, UnitWord
from cgroup_layering.model import Tracking
from cgroup_layering.output.tables import JsonMode, Output

Function = TypeVar("Function", bound=Callable[..., Any])


def apply(function: Function, decorators: tuple[Callable[[Any], Any], ...]) -> Function:
    """Decorate with all of them, the first one outermost: so --help has them in this order."""
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--json, --no-legend, -q: they become the argument `output`."""

    @functools.wraps(function)
    def wrapper(*args: Any, json: str, no_legend: bool, quiet: bool, **kwargs: Any) -> Any:
        return function(*args, output=Output(JsonMode(json), not no_legend, quiet), **kwargs)

    modes = click.Choice([mode.value for mode in JsonMode])
    return apply(
        wrapper,
        (
            click.option("--json", type=modes, default="off", help="Print one JSON document."),
            click.option("--no-legend", is_flag=True, help="Print no headers and footers."),
            click.option("-q", "--quiet", is_flag=True, help="Print only results and errors."),
        ),
    )


def root_option(function: Function) -> Function:
    """--root: work on the files of an image."""
    kind = click.Path(exists=True, file_okay=False, path_type=Path)
    text = "Work on the files below this folder, without D-Bus."
    return click.option("--root", type=kind, default=Path("/"), show_default=False, help=text)(function)


@dataclass(frozen=True)
class Writing:
    """What is said to a verb that writes."""

    now: bool
    dry_run: bool
    reload: bool
    timeout: float
    """Seconds that restarts may take."""


def write_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--now, --dry-run, --no-reload, --timeout: they become the argument `writing`."""

    @functools.wraps(function)
    def wrapper(*args: Any, now: bool, dry_run: bool, no_reload: bool, timeout: float, **kwargs: Any) -> Any:
        return function(*args, writing=Writing(now, dry_run, not no_reload, timeout), **kwargs)

    return apply(
        wrapper,
        (
            click.option("--now", is_flag=True, help="Also restart what may be restarted (see plan)."),
            click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing."),
            click.option("--no-reload", is_flag=True, help="Leave the daemon-reload to somebody else."),
            click.option(
                "--timeout", type=Span(), default=300.0, show_default="5min", help="How long restarts may take."
            ),
        ),
    )


def runtime_option(function: Function) -> Function:
    """--runtime."""
    return click.option("--runtime", is_flag=True, help="Write below /run, until the next boot.")(function)


def layer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of the verbs that layer; they become the argument `asked`."""

    @functools.wraps(function)
    def wrapper(
        *args: Any,
        tracking: str | None,
        accept_oom_policy_loss: bool,
        layer_limits: bool | None,
        runtime: bool,
        ignore_path_rules: bool,
        **kwargs: Any,
    ) -> Any:
        kind = Tracking(tracking) if tracking else None
        asked = Asked(kind, layer_limits, runtime, ignore_path_rules, accept_oom_policy_loss)
        return function(*args, asked=asked, **kwargs)

    return apply(
        wrapper,
        (
            click.option(
                "--tracking",
                type=click.Choice(["instance", "service"]),
                help="Count memory at layer and instance (default), or at the layer alone.",
            ),
            click.option(
                "--accept-oom-policy-loss",
                is_flag=True,
                help="Let services lose their OOMPolicy= to --tracking=service.",
            ),
            click.option(
                "--layer-limits/--no-layer-limits",
                default=None,
                help="Put MemoryMax, MemoryHigh and MemorySwapMax on layers too (default), or leave them off.",
            ),
            runtime_option,
            path_rules_option,
        ),
    )


def path_rules_option(function: Function) -> Function:
    """--ignore-path-rules."""
    text = "Layer services also where rules on their cgroups (nftables, iptables, bpf) would not hold any more."
    return click.option("--ignore-path-rules", is_flag=True, help=text)(function)


def rehome_option(function: Function) -> Function:
    """--rehome: with --now."""
    text = "With --now: evict what services have cached and read it back in, so that their layers pay for it."
    return click.option("--rehome", is_flag=True, help=text)(function)


def units_argument(required: bool) -> Callable[[Function], Function]:
    """UNIT... as full names or globs."""
    return click.argument("units", nargs=-1, required=required, type=UnitWord())


def units_or_plan_argument(function: Function) -> Function:
    """[UNIT...|FILE]."""
    return click.argument("units", nargs=-1, type=UnitOrPlanWord(), metavar="[UNIT...|FILE]")(function)
