# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kinds of words on the command line: units, spans, paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import click.shell_completion

from cgroup_layering.errors import CgroupLayeringError
from cgroup_layering.naming import InvalidName, is_glob, service_name
from cgroup_layering.spans import parse_span


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


class UnitOrPlanWord(UnitWord):
    """The same, or the file of a plan."""

    name = "UNIT|FILE"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The full unit name, the glob or the path as it is."""
        from cgroup_layering.cli.planfiles import is_plan_file

        return value if is_plan_file(value) else super().convert(value, param, ctx)
