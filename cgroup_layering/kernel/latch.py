# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hold a layer's controllers while its service is un-layered under a running instance.

When the files of a layer are gone, the next daemon-reload finds no member that wants controllers in it and
writes `-memory -pids -cpu` to its cgroup.subtree_control: the instance would lose memory.max, pids.max and cpu.max
at once (seen on 252). The kernel refuses that with EBUSY while a child of the layer has the controller in its own
cgroup.subtree_control (cgroup-v2.rst, "Top-down Constraint"; kernel/cgroup/cgroup.c,
`cgroup_subtree_control_write`), and systemd expects it (src/basic/cgroup-util.c, `cg_enable`). So an empty
cgroup is made that does just this. It goes with the layer: systemd removes empty children when a slice stops.
"""

from __future__ import annotations

from pathlib import Path

from cgroup_layering.errors import KernelFileError

LATCH = "latch"


def latch(layer: Path) -> None:
    """Pin all controllers that `layer` (its folder in cgroupfs) has on for its children. Raises KernelFileError."""
    source = layer / "cgroup.subtree_control"
    folder = layer / LATCH
    try:
        controllers = source.read_text().split()
        folder.mkdir(exist_ok=True)
        control = folder / "cgroup.subtree_control"
        for controller in controllers:
            control.write_text(f"+{controller}")
    except OSError as error:
        raise KernelFileError(folder, error.strerror or str(error)) from error


def unlatch(layer: Path) -> None:
    """Take the latch away; systemd then decides about the controllers again. Raises KernelFileError."""
    try:
        (layer / LATCH).rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise KernelFileError(layer / LATCH, error.strerror or str(error)) from error
