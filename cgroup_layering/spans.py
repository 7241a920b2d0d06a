# SPDX-License-Identifier: LGPL-2.1-or-later
"""Time spans and sizes in systemd's syntax (systemd.time(7) "Parsing Time Spans"; src/basic/parse-util.c)."""

from __future__ import annotations

import re

_SECONDS = {
    "": 1.0,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "msec": 1e-3,
    "us": 1e-6,
    "usec": 1e-6,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "days": 86400.0,
    "w": 604800.0,
    "week": 604800.0,
    "weeks": 604800.0,
    "M": 2629800.0,
    "month": 2629800.0,
    "months": 2629800.0,
    "y": 31557600.0,
    "year": 31557600.0,
    "years": 31557600.0,
}
"""A month is 30.4375 days and a year 365.25, as systemd has it (src/basic/time-util.h)."""
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTPE]?)B?", re.ASCII)
_UNITS = "BKMGTPE"


def parse_span(text: str) -> float:
    """Seconds in a time span such as `90`, `90s` or `1min 30s`; raises ValueError."""
    position, total = 0, 0.0
    if not text.strip():
        raise ValueError("an empty time span")
    while position < len(text.rstrip()):
        match = _PART.match(text, position)
        if match is None or match[2] not in _SECONDS:
            raise ValueError(f"{text!r} is not a time span such as 90s or 5min")
        total += float(match[1]) * _SECONDS[match[2]]
        position = match.end()
    return total


def format_span(seconds: float) -> str:
    """Seconds as systemd prints them, to the millisecond: `1h 2min 3.5s`."""
    rest = round(seconds * 1000)
    words = []
    for name, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if rest >= size:
            words.append(f"{rest // size}{name}")
            rest %= size
    if rest >= 1000 or (rest and words):
        words.append(f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s")
    elif rest:
        words.append(f"{rest}ms")
    return " ".join(words) or "0"


def parse_size(text: str) -> int | None:
    """Bytes in a size such as `64M` (base 1024); None for `infinity`; raises ValueError (also for percent)."""
    if text == "infinity":
        return None
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 64M")
    return int(float(match[1]) * 1024 ** _UNITS.index(match[2] or "B"))


def format_size(size: int) -> str:
    """Bytes as systemd prints them: `118.6M`, base 1024."""
    value = float(size)
    for unit in _UNITS:
        if abs(value) < 1024 or unit == "E":
            return f"{size}B" if unit == "B" else f"{value:.1f}{unit}"
        value /= 1024
    raise AssertionError
