# SPDX-License-Identifier: LGPL-2.1-or-later
"""Instances from PID 1's messages: joined, counted and cut off; points in time and spans as people write them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_layering.history import Instance, Now, instances
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.moments import parse_moment
from cgroup_layering.spans import format_span, parse_span
from cgroup_layering.systemd.journal import Entry, Message

GROUP = "/system.slice/system-a.service.slice/a.service"
SECOND = 1_000_000
FULL = {"CPU_USAGE_NSEC": "2500000000", "IO_METRIC_READ_BYTES": "4096", "MEMORY_PEAK": "67108864"}


@pytest.fixture
def fs(tmp_path: Path) -> CgroupFS:
    (tmp_path / "cgroup.controllers").touch()
    folder = tmp_path / GROUP[1:]
    folder.mkdir(parents=True)
    (folder / "cpu.stat").write_text("usage_usec 1500\nuser_usec 1000\n")
    (folder / "memory.peak").write_text("8192\n")
    (folder / "io.stat").write_text("254:0 rbytes=4096 wbytes=512 rios=1\n8:0 rbytes=1 wbytes=2 rios=1\n")
    return CgroupFS(tmp_path)


def run(name: str, start: int, end: int | None, **fields: str) -> list[Entry]:
    """The messages of one instance, the newest first, as the journal has them; seconds."""
    found = [] if end is None else [
        Entry(end * SECOND, Message.RESOURCES, name, fields),
        Entry(end * SECOND, Message.SUCCEEDED, name),
    ]  # fmt: skip
    return [*found, Entry(start * SECOND, Message.STARTED, name)]


def counted(entries: list[Entry], read: list[Entry]) -> Iterator[Entry]:
    for entry in entries:
        read.append(entry)
        yield entry


def test_messages_are_joined_by_invocation(fs: CgroupFS) -> None:
    entries = [
        *run("live", 50, None),
        Entry(40 * SECOND, Message.FAILED, "second", {"UNIT_RESULT": "exit-code"}),
        Entry(30 * SECOND, Message.STARTED, "second"),
        *run("first", 10, 20, **FULL),
    ]
    entries.insert(3, Entry(25 * SECOND, Message.STARTING, "second"))
    now = Now("live", 49 * SECOND, GROUP)
    first, second, live = instances(entries, now, fs)
    assert (first.started_usec, first.ended_usec, first.result) == (10 * SECOND, 20 * SECOND, "success")
    assert (first.cpu_nsec, first.io_read_bytes, first.io_write_bytes) == (2_500_000_000, 4096, None)
    assert first.recorded and first.left_at_most_bytes == 64 << 20
    assert (second.started_usec, second.ended_usec) == (25 * SECOND, 40 * SECOND)
    assert (second.result, second.recorded, second.cpu_nsec) == ("exit-code", False, None)
    assert second.left_at_most_bytes is None
    assert (live.live, live.started_usec, live.ended_usec) == (True, 49 * SECOND, None)
    assert (live.cpu_nsec, live.io_read_bytes, live.io_write_bytes) == (1_500_000, 4097, 514)
    assert (live.memory_peak_bytes, live.swap_peak_bytes, live.left_at_most_bytes) == (8192, None, None)


def test_no_more_is_read_than_is_shown(fs: CgroupFS) -> None:
    entries = [entry for number in range(100, 0, -1) for entry in run(f"i{number}", number * 10, number * 10 + 5)]
    read: list[Entry] = []
    rows = instances(counted(entries, read), Now(), fs, lines=2)
    assert [one.invocation for one in rows] == ["i99", "i100"]
    assert len(read) == 7, "the first message of a third"
    assert len(instances(entries, Now(), fs)) == 100
    (last,) = instances(entries, Now(), fs, since_usec=1002 * SECOND)
    assert (last.started_usec, last.ended_usec) == (1000 * SECOND, 1005 * SECOND), "it began before"
    assert instances(entries, Now(), fs, since_usec=1006 * SECOND) == []


def left(fs: CgroupFS, entries: list[Entry], now: Now, oldest: int = 0, lines: int | None = None) -> list[Instance]:
    return instances(entries, now, fs, lines, oldest)


def test_what_is_left_is_told_only_where_it_can_be(fs: CgroupFS) -> None:
    one = [*run("b", 110, 120), *run("a", 10, 20)]
    layered = Now(layered=True, layer_since_usec=100 * SECOND, outlived_bytes=777)
    before, inside = left(fs, one, layered)
    assert (before.left_bytes, inside.left_bytes, inside.left_why) == (None, 777, "")
    assert "after its end" in before.left_why
    (shown,) = left(fs, one, layered, lines=1)
    assert shown.left_bytes == 777
    # The journal may begin after another instance that ended in this layer.
    assert "sum" in left(fs, one, layered, oldest=105 * SECOND)[1].left_why
    two = [*run("c", 130, 140), *one]
    assert [row.left_bytes for row in left(fs, two, layered)] == [None, None, None]
    (shown,) = left(fs, two, layered, lines=1)
    assert shown.left_bytes is None and "sum" in shown.left_why
    only_layer = Now(layered=True, layer_since_usec=100 * SECOND)
    assert "Only the layer" in left(fs, one, only_layer)[1].left_why
    assert "not layered" in left(fs, one, Now())[1].left_why


NOW = datetime(2026, 11, 23, 18, 30, 15, 999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("today", datetime(2026, 11, 23, tzinfo=UTC)),
        ("yesterday", datetime(2026, 11, 22, tzinfo=UTC)),
        ("yesterday 07:05", datetime(2026, 11, 22, 7, 5, tzinfo=UTC)),
        ("2026-02-01", datetime(2026, 2, 1, tzinfo=UTC)),
        ("2024-02-29 23:59:58", datetime(2024, 2, 29, 23, 59, 58, tzinfo=UTC)),
        ("2026-02-01T06:00", datetime(2026, 2, 1, 6, tzinfo=UTC)),
        ("06:00", datetime(2026, 11, 23, 6, tzinfo=UTC)),
        ("-1h 30min", NOW - timedelta(minutes=90)),
        ("2d ago", NOW - timedelta(days=2)),
        ("@1795450000", datetime.fromtimestamp(1795450000, UTC)),
    ],
)
def test_points_in_time(text: str, moment: datetime) -> None:
    assert parse_moment(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "tomorrow-ish", "2026-13-01", "25:00", "-", "3 parsec ago", "@", "@x", "-999999999d"]
)
def test_what_is_no_point_in_time_is_said_so(text: str) -> None:
    with pytest.raises(ValueError, match="is no point in time"):
        parse_moment(text, NOW)


@given(st.integers(0, 10**10))
def test_a_span_that_is_written_can_be_read(milliseconds: int) -> None:
    assert parse_span(format_span(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0"), (0.25, "250ms"), (1.5, "1.5s"), (60, "1min"), (90061.001, "1d 1h 1min 1.001s")]
)
def test_spans_are_written_as_systemd_does(seconds: float, text: str) -> None:
    assert format_span(seconds) == text
