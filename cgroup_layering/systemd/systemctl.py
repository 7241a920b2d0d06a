# SPDX-License-Identifier: LGPL-2.1-or-later
"""`systemctl set-property`: systemd's own reading of values, which has no other interface."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable

from cgroup_layering.errors import CgroupLayeringError

_TOOL_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_PROBE = "Slice=system.slice"
_PROBED = "Cannot set property Slice"


class PropertyRefused(CgroupLayeringError):
    """systemctl or systemd did not take a property; `sentence` is theirs."""

    def __init__(self, unit: str, sentence: str) -> None:
        super().__init__(unit, sentence)
        self.unit = unit
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence if self.sentence.endswith(".") else f"{self.sentence}."


def check_properties(unit: str, words: Iterable[str], timeout: float = 60.0) -> None:
    """See that systemd would take all of `words`, without setting any. Raises PropertyRefused.

    systemd checks all properties before it sets the first (src/core/dbus-unit.c, `bus_unit_set_properties`), and
    `Slice` of a unit with a file it refuses always: behind the others it stands for "all of these would do".
    """
    said = _set_property(unit, [*words, _PROBE], True, timeout)
    if said is None:
        raise PropertyRefused(unit, f"systemd took {_PROBE} for {unit}, which it never should")
    if _PROBED not in said:
        raise PropertyRefused(unit, said)


def set_properties(unit: str, words: Iterable[str], runtime: bool, timeout: float = 60.0) -> None:
    """Set properties live, and in a file of systemd's until the next boot or for good. Raises PropertyRefused."""
    said = _set_property(unit, words, runtime, timeout)
    if said is not None:
        raise PropertyRefused(unit, said)


def _set_property(unit: str, words: Iterable[str], runtime: bool, timeout: float) -> str | None:
    """What systemctl complained of, or None where all went well."""
    command = ["systemctl", "set-property", "--no-ask-password", *(["--runtime"] if runtime else []), "--", unit]
    # Not the caller's PATH: it should not decide what root runs here.
    forced = {"PATH": _TOOL_PATH, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_LOG_LEVEL": "info"}
    try:
        done = subprocess.run(
            [*command, *words], check=False, capture_output=True, text=True, timeout=timeout, env=os.environ | forced
        )
    except subprocess.TimeoutExpired:
        return f"systemctl did not set the properties of {unit} within {timeout:g} s"
    except OSError as error:
        return f"Cannot run systemctl: {error.strerror}"
    lines = done.stderr.strip().splitlines()
    return None if done.returncode == 0 else (lines[-1] if lines else f"systemctl failed with {done.returncode}")
