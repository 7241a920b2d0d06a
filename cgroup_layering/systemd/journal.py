# SPDX-License-Identifier: LGPL-2.1-or-later
"""What PID 1 wrote into the journal about a service: the only module that reads the journal.

Sources: systemd.journal-fields(7); src/systemd/sd-messages.h for the ids of messages.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cgroup_layering.errors import CgroupLayeringError

_TIME = "__REALTIME_TIMESTAMP"


class JournalError(CgroupLayeringError):
    """The journal could not be opened or read."""

    hint = "See `journalctl --header`."

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"The journal cannot be read: {self.reason}."


class Message(StrEnum):
    """Messages of PID 1 about a unit, by MESSAGE_ID."""

    STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"
    STARTED = "39f53479d3a045ac8e11786248231fbf"
    EXITED = "98e322203f7a4ed290d09fe03c09fe15"
    SUCCEEDED = "7ad2d189f7e94e70a38c781354912448"
    FAILED = "d9b373ed55a64feb8242e02dbe79a49c"
    RESOURCES = "ae8f7b866b0347b9af31fe1c80b127c0"


@dataclass(frozen=True, slots=True)
class Entry:
    """One message; `when` is the wall clock in microseconds since 1970."""

    when: int
    message: Message
    invocation: str
    fields: Mapping[str, str] = field(default_factory=dict)


def newest_first(unit: str) -> Iterator[Entry]:
    """PID 1's messages about a unit's instances, the newest first. Raises JournalError."""
    with _open() as reader:
        reader.add_match(_PID="1")
        reader.add_match(UNIT=unit)
        for message in Message:
            reader.add_match(MESSAGE_ID=message.value)
        reader.seek_tail()
        while found := reader.get_previous():
            fields = {key: str(value) for key, value in found.items() if not key.startswith("_")}
            if fields.get("INVOCATION_ID"):
                yield Entry(found[_TIME], Message(fields["MESSAGE_ID"]), fields["INVOCATION_ID"], fields)


def oldest() -> int | None:
    """When the oldest entry was written that is still there; None for an empty journal. Raises JournalError."""
    with _open() as reader:
        reader.seek_head()
        found = reader.get_next()
        return found[_TIME] if found else None


@contextlib.contextmanager
def _open() -> Iterator[Any]:
    from systemd import journal

    # By default these would become datetimes without a zone, and UUIDs.
    plain = {_TIME: int, "MESSAGE_ID": bytes.decode, "INVOCATION_ID": bytes.decode}
    try:
        with journal.Reader(flags=journal.LOCAL_ONLY | journal.SYSTEM, converters=plain) as reader:
            yield reader
    except OSError as error:
        raise JournalError((error.strerror or str(error)).lower()) from error
