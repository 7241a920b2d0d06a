# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plans on disk: written by `plan --out`, read by `migrate FILE`."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from cgroup_layering.planfile import SIZE_LIMIT, PlanFileError, Saved, parse

_SUFFIXES = (".json", ".plan")


def is_plan_file(word: str) -> bool:
    """Whether a word on the command line is a plan's file: no unit's name has a slash, and few end so."""
    return "/" in word or word.endswith(_SUFFIXES)


def write_plan_file(path: Path, document: Mapping[str, object]) -> None:
    """Write a plan that root alone can read: it tells of all services. Raises PlanFileError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="ascii") as file:
            json.dump(document, file, ensure_ascii=True)
            file.write("\n")
    except OSError as error:
        raise PlanFileError(path, (error.strerror or str(error)).lower()) from error


def _check_trust(path: Path, facts: os.stat_result) -> None:
    """What is applied without a question must come from whoever applies it, or from root."""
    if facts.st_uid not in (0, os.geteuid()):
        raise PlanFileError(path, f"it belongs to the user with the id {facts.st_uid}, not to root")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PlanFileError(path, "others than its owner may write to it")


def read_plan_file(path: Path) -> Saved:
    """What a plan's file says. Raises PlanFileError, also where others could have written it."""
    try:
        # Not to wait for ever for the other end of a FIFO.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise PlanFileError(path, "it is not a regular file")
            _check_trust(path, facts)
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise PlanFileError(path, (error.strerror or str(error)).lower()) from error
    if len(data) > SIZE_LIMIT:
        raise PlanFileError(path, f"it has more than {SIZE_LIMIT} bytes")
    return parse(data.decode(errors="replace"), path)
