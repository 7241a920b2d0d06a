# SPDX-License-Identifier: LGPL-2.1-or-later
"""Options that several verbs share."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import click.shell_completion

from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.naming import InvalidName, is_glob, service_name
from cgroup_layering.output.tables import JsonMode, Output
from cgroup_layering.restarting import Gate
from cgroup_layering.spans import parse_span

Function = TypeVar("Function", bound=Callable[..., Any])


def _apply(function: Function, decorators: tuple[Callable[[Any], Any], ...]) -> Function:
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


class UnitWord(click.ParamType):
    """A service name, with or without `.service`, or a glob."""

    name = "UNIT"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The full unit name, or the glob as it is."""
        if is_glob(value):
            return value
        try:
            return service_name(value)
        except InvalidName as error:
            raise click.UsageError(str(error), ctx) from error

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Installed services that begin so; none where the bus can't be asked."""
        from cgroup_layering.systemd.connecting import connect

        if any(char in incomplete for char in "*?["):
            return []
        try:
            names = sorted(row.name for row in connect(timeout=5).unit_files(f"{incomplete}*.service"))
        except CgroupLayeringError:
            return []
        return [click.shell_completion.CompletionItem(name) for name in names]


class OneUnit(UnitWord):
    """A service name, with or without `.service`."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The full unit name."""
        if is_glob(value):
            raise click.UsageError(f"{value!r} is a pattern; name one service.", ctx)
        return super().convert(value, param, ctx)


class Span(click.ParamType):
    """A time span in systemd's syntax, in seconds."""

    name = "SPAN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds, more than none."""
        if isinstance(value, float):
            return value
        try:
            seconds = parse_span(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        if not 0 < seconds <= 86400:
            self.fail("it must be more than 0 and at most one day.", param, ctx)
        return seconds


class NamedPath(click.ParamType):
    """A path as it was given; the empty one would stand for the working directory."""

    name = "PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path."""
        if not str(value):
            self.fail("it is empty.", param, ctx)
        return Path(value)


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--json, --no-legend, -q: they become the argument `output`."""

    @functools.wraps(function)
    def wrapper(*args: Any, json: str, no_legend: bool, quiet: bool, **kwargs: Any) -> Any:
        return function(*args, output=Output(JsonMode(json), not no_legend, quiet), **kwargs)

    modes = click.Choice([mode.value for mode in JsonMode])
    return _apply(
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


def write_options(function: Function) -> Function:
    """Options of the verbs that write: --runtime, --dry-run, --now, --no-reload, --timeout."""
    return _apply(
        function,
        (
            click.option("--now", is_flag=True, help="Also restart what may be restarted (see plan)."),
            click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing."),
            click.option("--no-reload", is_flag=True, help="Leave the daemon-reload to somebody else."),
            click.option(
                "--timeout", type=Span(), default=300.0, show_default="5min", help="How long restarts may take."
            ),
        ),
    )


def layer_options(function: Function) -> Function:
    """Options of the verbs that layer: --tracking, --accept-oom-policy-loss, --layer-limits, --runtime."""
    return _apply(
        function,
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
            click.option("--runtime", is_flag=True, help="Write below /run, until the next boot."),
        ),
    )


def gate_options(function: Function) -> Function:
    """How restarts are paced and what stops them: --batch, --pause, --health-time, --health-cmd, --max-failures."""
    whole = click.IntRange(min=1)
    return _apply(
        function,
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


def gate_of(options: Mapping[str, Any]) -> Gate:
    """What these options say. Raises UsageError where they make no sense."""
    given = {key: options[key] for key in ("batch", "pause", "health_time", "health_cmd", "max_failures")}
    if not options["now"] and any(value is not None for value in given.values()):
        raise click.UsageError("--batch, --pause, --health-time, --health-cmd and --max-failures go with --now.")
    if given["pause"] is not None and given["batch"] is None:
        raise click.UsageError("--pause is between two batches, so it needs --batch.")
    try:
        command = tuple(shlex.split(given["health_cmd"] or ""))
    except ValueError as error:
        raise click.UsageError(f"--health-cmd is no command: {error}.") from error
    if given["health_cmd"] is not None and not command:
        raise click.UsageError("--health-cmd is empty.")
    return Gate(
        batch=given["batch"] or 0,
        pause_seconds=given["pause"] or 0.0,
        health_seconds=given["health_time"] or 0.0,
        health_command=command,
        max_failures=given["max_failures"] or 0,
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


class UnitOrPlanWord(UnitWord):
    """The same, or the file of a plan."""

    name = "UNIT|FILE"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The full unit name, the glob or the path as it is."""
        from cgroup_layering.cli.planfiles import is_plan_file

        return value if is_plan_file(value) else super().convert(value, param, ctx)


def units_or_plan_argument(function: Function) -> Function:
    """[UNIT...|FILE]."""
    return click.argument("units", nargs=-1, type=UnitOrPlanWord(), metavar="[UNIT...|FILE]")(function)
