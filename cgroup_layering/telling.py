# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a service's files alone tell what a plan must know of it, so that systemd need not be asked. Pure.

Asking systemd for the properties of a unit costs both sides milliseconds, and most services' files say plainly what
they want. Whatever leaves a doubt about what systemd made of them (a value that it may not know, what depends on its
defaults, specifiers that need the host) is not told: such a service is asked about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cgroup_layering.naming import is_slice_name
from cgroup_layering.offline import specifiers
from cgroup_layering.unitfile import Setting, resolve

_YES_OR_NO = frozenset(["1", "0", "yes", "no", "y", "n", "true", "false", "t", "f", "on", "off"])
_WORDS = {
    ("Service", "Type"): frozenset(["simple", "exec", "forking", "oneshot", "dbus", "notify", "idle"]),
    ("Service", "KillMode"): frozenset(["control-group", "process", "mixed", "none"]),
    ("Service", "OOMPolicy"): frozenset(["continue", "stop", "kill"]),
    ("Service", "StandardInput"): frozenset(["null", "tty", "tty-force", "tty-fail", "socket", "data"]),
    ("Service", "RemainAfterExit"): _YES_OR_NO,
    ("Service", "SendSIGKILL"): _YES_OR_NO,
    ("Unit", "DefaultDependencies"): _YES_OR_NO,
    ("Unit", "RefuseManualStart"): _YES_OR_NO,
    ("Unit", "RefuseManualStop"): _YES_OR_NO,
    ("Unit", "IgnoreOnIsolate"): _YES_OR_NO,
}
"""Settings that a plan looks at, and the values that all releases of systemd take for what they say."""
_UNTOLD = frozenset((("Service", "Delegate"), ("Unit", "SurviveFinalKillSignal"), ("Unit", "SourcePath")))
"""What they mean depends on the release, on its build or on other files."""
_LEANING = frozenset(("Requires", "RequiresOverridable", "BindsTo", "BindTo", "PartOf"))
"""Settings of [Unit] that have a unit restarted with others, old names included."""
LEANS = ("Requires", "BindsTo", "PartOf")
"""The same as properties on D-Bus."""


def tells_all(unit: str, settings: Sequence[Setting]) -> bool:
    """Whether all that counts is written so plainly that systemd can only have taken it as it stands."""
    written: set[str] = set()
    for setting in settings:
        place = (setting.section, setting.key)
        words = _WORDS.get(place)
        if place in _UNTOLD or (words is not None and setting.value not in words):
            return False
        if setting.section == "Service":
            if setting.key == "Slice" and not _is_plain_slice(unit, setting.value):
                return False
            if setting.value:
                written.add(setting.key)
            else:
                written.discard(setting.key)
    # Without Type=, it follows from the other two.
    return "Type" in written or ("ExecStart" in written and "BusName" not in written)


def _is_plain_slice(unit: str, value: str) -> bool:
    name = resolve(value, specifiers(unit)) if value else None
    return name is not None and is_slice_name(name)


def leans_on(unit: str, settings: Sequence[Setting]) -> frozenset[str] | None:
    """The units whose restart restarts this one, as far as its own files say; None where that is not plain."""
    found: set[str] = set()
    for value in _leanings(settings):
        names = resolve(value, specifiers(unit)) if '"' not in value and "'" not in value else None
        if names is None:
            return None
        found.update(names.split())
    return frozenset(found)


def _leanings(settings: Sequence[Setting]) -> Iterator[str]:
    return (setting.value for setting in settings if setting.section == "Unit" and setting.key in _LEANING)
