# SPDX-License-Identifier: LGPL-2.1-or-later
"""`monitor`: apply the lifetimes as things happen."""

from __future__ import annotations

import signal

import click

from cgroup_layering.errors import ExitCode
from cgroup_layering.kernel.inotify import Inotify
from cgroup_layering.lifetime.monitor import Monitor
from cgroup_layering.lifetime.notify import Service
from cgroup_layering.output.tables import Output
from cgroup_layering.requirements import check_cgroups, check_root_rights
from cgroup_layering.store import Store
from cgroup_layering.systemd.sparing import without_asyncio


@click.command("monitor")
def command() -> int:
    """Apply the lifetimes as things happen, until stopped; for cgroup-layering-monitor.service.

    Listens to systemd and to changes of unit files, and starts cgroup-layering-reap.service when a layer may go or a
    service is to be layered. Changes nothing itself.
    """
    with without_asyncio():
        from cgroup_layering.systemd.signals import SystemdSignals

    check_root_rights("watch over layers")
    events = SystemdSignals()
    monitor = Monitor(Store(), check_cgroups(), events, Inotify(), Service(), Output().say)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: events.stop())
    monitor.run()
    return ExitCode.OK
