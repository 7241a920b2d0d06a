# SPDX-License-Identifier: LGPL-2.1-or-later
"""A private bus with a stand-in for systemd on it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

with warnings.catch_warnings():
    # gi's importer warns, and warnings are errors here.
    warnings.simplefilter("ignore")
    import pydbus

if TYPE_CHECKING:
    from cgroup_layering.systemd.bus import SystemdBus

STAND_IN = Path(__file__).with_name("standin.py")
TIMEOUT = 0.5

Connect = Callable[..., "SystemdBus"]


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """The address of a message bus that is ours alone."""
    if shutil.which("dbus-daemon") is None:
        pytest.skip("there is no dbus-daemon on this machine")
    with subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address=1"], stdout=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stdout is not None
        yield daemon.stdout.readline().strip()
        daemon.terminate()


@pytest.fixture
def systemd(address: str) -> Iterator[Connect]:
    """Start a stand-in that does what it is told, and connect the product to it."""
    processes: list[subprocess.Popen[str]] = []

    def start(timeout: float = TIMEOUT, **told: object) -> SystemdBus:
        from cgroup_layering.systemd.bus import SystemdBus

        process = subprocess.Popen(
            [sys.executable, str(STAND_IN), address, json.dumps(told)], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        start.process = process  # type: ignore[attr-defined]
        return SystemdBus(pydbus.connect(address).con, timeout, timeout)

    yield start
    for process in processes:
        process.kill()
        process.communicate(timeout=10)
