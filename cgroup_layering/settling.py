# SPDX-License-Identifier: LGPL-2.1-or-later
"""See that a live layer has the limits that its changed file gives it.

systemd 252 and 262 write them at the daemon-reload. 257 does not (seen on 257.13): its D-Bus properties show the new
values, the layer's cgroup keeps the old ones until the service is restarted. So what is still old is written here, with
the value that systemd itself has for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from cgroup_layering.effective.quantities import PAGE
from cgroup_layering.effective.settings import FILES
from cgroup_layering.errors import KernelFileError
from cgroup_layering.kernel.cgroupfs import CgroupFS
from cgroup_layering.naming import slice_path
from cgroup_layering.systemd.manager import SERVICE, SLICE, Manager

LIMIT_FILES = {key: name for key, name in FILES.items() if name.startswith("memory.")}
WEIGHT_FILES = {"CPUWeight": "cpu.weight", "IOWeight": "io.weight"}
_ALL = (*LIMIT_FILES, *WEIGHT_FILES)
_UNSET = 2**64 - 1
_MAX = "max"
_DEFAULT_WEIGHT = 100


def settle(manager: Manager, fs: CgroupFS, layers: Iterable[str]) -> list[str]:
    """Bring the memory limits and weights of live `layers` up to date; a sentence for each that could not be written.

    Limits are bytes on both sides; the kernel rounds them down to whole pages (cgroup-v2.rst, "memory.max").
    """
    live = [layer for layer in layers if fs.exists(slice_path(layer))]
    props = manager.properties(live, SLICE, _ALL)
    remarks = []
    for layer in live:
        folder = fs.directory(slice_path(layer))
        for key, name, wanted in _late(props[layer], fs, slice_path(layer)):
            try:
                (folder / name).write_text(_MAX if wanted is None else str(wanted))
            except OSError as error:
                reason = error.strerror or str(error)
                remarks.append(f"{layer} keeps its old {key} until its service is restarted: {reason}.")
    return remarks


def late_limits(manager: Manager, fs: CgroupFS, units: Iterable[str]) -> dict[str, str]:
    """Running services that have other memory limits than systemd says, with a sentence each: 257 leaves them so."""
    props = manager.properties(units, SERVICE, ("ControlGroup", *_ALL))
    found = {}
    for unit, values in props.items():
        group = str(values.get("ControlGroup", ""))
        late = [key for key, _, _ in _late(values, fs, group)] if group else []
        if late:
            found[unit] = f"{unit} itself keeps its old {', '.join(late)} until its next start; its layer has the new."
    return found


def _late(props: Mapping[str, object], fs: CgroupFS, cgroup: str) -> Iterator[tuple[str, str, int | None]]:
    """What a cgroup has other than systemd says: the property, its file, and the value that belongs there."""
    for key, name in (*LIMIT_FILES.items(), *WEIGHT_FILES.items()):
        value = props.get(key)
        if not isinstance(value, int):
            continue
        try:
            actual = weight(fs, cgroup, name) if key in WEIGHT_FILES else fs.read_int(cgroup, name)
        except KernelFileError:
            # This kernel, or this tracking, has no such file, so there is nothing to be old.
            continue
        if key not in WEIGHT_FILES:
            wanted = None if value == _UNSET else value // PAGE * PAGE
        elif value:
            wanted = _DEFAULT_WEIGHT if value == _UNSET else value
        else:
            continue  # CPUWeight=idle is another file's
        if actual != wanted:
            yield key, name, wanted


def weight(fs: CgroupFS, cgroup: str, name: str) -> int:
    """A weight; io.weight has those of single devices behind its default (cgroup-v2.rst). Raises KernelFileError."""
    text = fs.read_text(cgroup, name)
    word = text.splitlines()[0].removeprefix("default ") if text else ""
    if not word.isdecimal():
        raise KernelFileError(fs.directory(cgroup) / name, "it has no weight", text)
    return int(word)
