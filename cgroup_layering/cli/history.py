# SPDX-License-Identifier: LGPL-2.1-or-later
"""`history`: the instances of a service and what each of them used."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import click

from cgroup_layering.cli.options import output_options
from cgroup_layering.cli.session import Session
from cgroup_layering.cli.words import OneUnit
from cgroup_layering.errors import ExitCode, KernelFileError
from cgroup_layering.history import Now, instances
from cgroup_layering.host import NoSuchUnit
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.model import OwnFiles, Tracking
from cgroup_layering.moments import parse_moment
from cgroup_layering.naming import is_template, slice_path
from cgroup_layering.output.history import as_json, show
from cgroup_layering.output.tables import Output
from cgroup_layering.systemd.journal import newest_first, oldest
from cgroup_layering.systemd.manager import SERVICE, UNIT, Manager

_UP = ("active", "reloading", "refreshing", "activating", "deactivating")


class Moment(click.ParamType):
    """A point in time in systemd's syntax, in microseconds since 1970."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Microseconds."""
        if isinstance(value, int):
            return value
        try:
            return int(parse_moment(str(value), datetime.now().astimezone()).timestamp() * 1e6)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class Lines(click.ParamType):
    """A number, or `all`, which is 0."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        if value == "all":
            return 0
        if not str(value).isdigit() or int(value) < 1:
            self.fail("it is a number from 1 on, or all.", param, ctx)
        return int(value)


@click.command("history")
@click.argument("unit", type=OneUnit())
@click.option("-n", "--lines", type=Lines(), default=10, help="How many instances to show, or all; 10 by default.")
@click.option("--since", type=Moment(), help="Show none that ended before this time.")
@click.option("--bytes", "raw", is_flag=True, help="Print sizes in bytes.")
@output_options
def command(unit: str, lines: int, since: int | None, raw: bool, output: Output) -> int:
    """Show the instances of a service: start, end, and what each used and left.

    It is systemd that records this, in the journal, when an instance ends; the live one is read from its cgroup.
    """
    session = Session()
    assert session.manager is not None  # noqa: S101 - history has no --root
    unit, exists = _primary(session.manager, unit)
    own = session.store.own().get(unit)
    now = _now(session.manager, session.fs, unit, own) if exists else Now()
    found = instances(newest_first(unit), now, session.fs, lines or None, oldest(), since)
    if not exists and not found:
        raise NoSuchUnit([unit])
    if output.json != "off":
        output.document(as_json(unit, now, found))
    else:
        show(unit, found, raw, output)
        if not found and os.geteuid() != 0:
            output.complain("Only root and members of the groups adm and systemd-journal see all of the journal.")
    return ExitCode.OK


def _primary(manager: Manager, unit: str) -> tuple[str, bool]:
    """The primary name of a service, and whether systemd knows it: one that is gone has its history all the same."""
    if is_template(unit):
        return unit, False
    (row,) = manager.load([unit])
    return row.name, row.load_state != "not-found"


def _now(manager: Manager, fs: CgroupFS, unit: str, own: OwnFiles | None) -> Now:
    names = ("ActiveState", "InvocationID", "InactiveExitTimestamp")
    props = manager.properties([unit], UNIT, names)[unit]
    group = str(manager.properties([unit], SERVICE, ("ControlGroup",))[unit].get("ControlGroup", ""))
    state = str(props.get("ActiveState", ""))
    # Between two restarts a service is activating too, without a cgroup: then the last instance has ended.
    live = state in _UP and (state != "activating" or bool(group and fs.exists(group)))
    since = None
    outlived = None
    if own is not None:
        layer = manager.properties([own.layer], UNIT, ("ActiveState", "ActiveEnterTimestamp"))[own.layer]
        if layer.get("ActiveState") == "active":
            since = _stamp(layer.get("ActiveEnterTimestamp"))
            outlived = _outlived(fs, own, group if live else "")
    return Now(
        invocation=bytes(props.get("InvocationID") or ()).hex() if live else "",  # type: ignore[call-overload]
        started_usec=_stamp(props.get("InactiveExitTimestamp")) if live else None,
        control_group=group,
        layered=own is not None,
        layer_since_usec=since,
        outlived_bytes=outlived,
    )


def _stamp(value: object) -> int | None:
    return value if isinstance(value, int) and value else None


def _outlived(fs: CgroupFS, own: OwnFiles, group: str) -> int | None:
    """What is charged to a layer beside the live instance; None where only the layer counts memory."""
    if own.tracking is Tracking.SERVICE:
        return None
    try:
        whole = fs.read_int(slice_path(own.layer), "memory.current") or 0
        inside = group.startswith(slice_path(own.layer) + "/") and fs.exists(group)
        return max(0, whole - (fs.read_int(group, "memory.current") or 0 if inside else 0))
    except KernelFileError:
        return None
