# SPDX-License-Identifier: LGPL-2.1-or-later
"""Points in time in systemd's syntax (systemd.time(7) "Parsing Timestamps"), as far as people type them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from cgroup_layering.spans import parse_span

_CLOCK = r"(\d{1,2}):(\d{2})(?::(\d{2}))?"
_DAY = re.compile(rf"(?:(\d{{4}})-(\d{{1,2}})-(\d{{1,2}})|(today|yesterday))(?:[ T]{_CLOCK})?", re.ASCII)
_TIME = re.compile(_CLOCK, re.ASCII)


def parse_moment(text: str, now: datetime) -> datetime:
    """The moment that `text` says, such as `yesterday`, `2026-11-23 18:00`, `18:00`, `-2h`, `2h ago` or `@1795450000`.

    `now` is in the zone that days and times of day mean. Raises ValueError.
    """
    word = text.strip()
    if word == "now":
        return now
    if re.fullmatch(r"@\d{1,11}", word, re.ASCII):
        return datetime.fromtimestamp(int(word[1:]), now.tzinfo)
    try:
        if word.startswith("-"):
            return now - timedelta(seconds=parse_span(word[1:]))
        if word.endswith(" ago"):
            return now - timedelta(seconds=parse_span(word.removesuffix(" ago")))
        if (found := _TIME.fullmatch(word)) is not None:
            return _at(now, found.groups())
        if (found := _DAY.fullmatch(word)) is not None:
            year, month, day, name, *clock = found.groups()
            date = now - timedelta(days=name == "yesterday") if name else now.replace(
                year=int(year), month=int(month), day=int(day)
            )  # fmt: skip
            return _at(date, clock)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is no point in time: {error}") from error
    raise ValueError(f"{text!r} is no point in time such as yesterday, '2026-11-23 18:00' or -2h")


def _at(day: datetime, clock: object) -> datetime:
    hour, minute, second = (int(part or 0) for part in clock)  # type: ignore[attr-defined]
    return day.replace(hour=hour, minute=minute, second=second, microsecond=0)
