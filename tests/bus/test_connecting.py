# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a bus that does not answer is waited for."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from cgroup_layering.systemd.connecting import connect, connect_apart, patience
from cgroup_layering.systemd.manager import BusTimeout


@pytest.mark.parametrize("call", [connect, connect_apart])
@pytest.mark.parametrize(("said", "seconds"), [("0.2", "0.2"), ("300ms", "0.3")])
def test_the_environment_says_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., object], said: str, seconds: str
) -> None:
    monkeypatch.setenv("SYSTEMD_BUS_TIMEOUT", said)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "bus"))
        silent.listen()
        with pytest.raises(BusTimeout, match=f"within {seconds} s"):
            call(bus_socket=tmp_path / "bus", booted=tmp_path)


@pytest.mark.parametrize(
    ("said", "seconds"), [("", 30), ("0", 30), ("soon", 30), ("infinity", 30), ("1min", 60), ("9w", 3600)]
)
def test_what_is_no_span_counts_as_unset(monkeypatch: pytest.MonkeyPatch, said: str, seconds: float) -> None:
    monkeypatch.setenv("SYSTEMD_BUS_TIMEOUT", said)
    assert patience() == seconds


def test_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYSTEMD_BUS_TIMEOUT", raising=False)
    assert patience() == 30
