# SPDX-License-Identifier: LGPL-2.1-or-later
"""Time spans and sizes as systemd writes them."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_layering.spans import format_size, parse_size, parse_span
from tests.systemd_offline import needs_systemd

SPANS = {"90": 90, "90s": 90, "1min 30s": 90, "1min30s": 90, "2h": 7200, "1d": 86400, "250ms": 0.25, "1.5s": 1.5}
SPANS |= {" 5 min ": 300, "3 hours": 10800, "7us": 7e-6, "1hr": 3600, "2 days 1 second": 172801}
SPANS |= {"1w": 604800, "2 weeks": 1209600, "1M": 2629800, "1month": 2629800, "1y": 31557600, "2years": 63115200}


@pytest.mark.parametrize(("text", "seconds"), SPANS.items())
def test_spans(text: str, seconds: float) -> None:
    assert parse_span(text) == pytest.approx(seconds)


@needs_systemd
def test_spans_are_systemds() -> None:
    done = subprocess.run(
        ["systemd-analyze", "timespan", *(text.strip() for text in SPANS)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert [int(us) / 1e6 for us in re.findall(r"(?:μs|us): (\d+)", done.stdout)] == [
        pytest.approx(seconds) for seconds in SPANS.values()
    ]


@pytest.mark.parametrize("text", ["", " ", "x", "5 parsecs", "-5", "5s!", "1..2s", "s", "∞", "5 s 6 q", "٣s"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(ValueError, match="time span"):
        parse_span(text)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20))
def test_any_text_is_a_span_or_refused(text: str) -> None:
    try:
        assert parse_span(text) >= 0
    except ValueError as error:
        assert str(error)


SIZES = {
    "0": 0,
    "64M": 64 << 20,
    "1.5K": 1536,
    "7B": 7,
    "2T": 2 << 40,
    "1E": 1 << 60,
    " 5G ": 5 << 30,
    "infinity": None,
}


@pytest.mark.parametrize(("text", "size"), SIZES.items())
def test_sizes(text: str, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "50%", "5X", "M", "-1", "1 2", "5MB5"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1.0K"), (124_361_113, "118.6M"), (1 << 60, "1.0E"), (-2048, "-2.0K")],
)
def test_format_size(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 1 << 63))
@settings(max_examples=100, deadline=None)
def test_formatted_sizes_are_nearly_read_back(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.06)
