# SPDX-License-Identifier: LGPL-2.1-or-later
"""Delegate=: cgroup trees of a payload's own, containers, user managers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.vm.fidelity.guest.kit import CGROUPS, TAGS, Behaviour, Difference, Observation, Run, nothing, read, sh, wait

ONLY_INSTANCE = "The payload was promised the memory controller, so there is `instance` tracking alone."
CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")
"""What systemd delegates (src/basic/cgroup-util.h, CGROUP_MASK_DELEGATE) and the kernel has as a controller."""
FOREIGN = "misc"
TREE = Path("/usr/local/lib/fidelity-tree")
ROOT = Path("/var/tmp/fidelity-root")
IMAGE = "localhost/fidelity:1"
QUADLETS = Path("/etc/containers/systemd")
USER = "fidelity"
HOME = Path("/home") / USER
GENERATOR = Path("/usr/lib/systemd/system-generators/podman-system-generator")

# Moves itself into a leaf, hands the controllers on, bounds the other leaf, fills it with a process.
TREE_TEXT = """#!/bin/bash
set -eu
own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
own=${own%/main}
mkdir -p "$own/main" "$own/work/inner"
echo $$ >"$own/main/cgroup.procs"
for folder in "$own" "$own/work"; do echo '+memory +pids' >"$folder/cgroup.subtree_control"; done
echo 16777216 >"$own/work/memory.max"
echo 3 >"$own/work/inner/pids.max"
(echo $BASHPID >"$own/work/inner/cgroup.procs"; exec sleep infinity) &
systemd-notify --ready
wait
"""


def prepare() -> None:
    """The payload's script, and an image for podman made of a handful of files."""
    TREE.write_text(TREE_TEXT)
    TREE.chmod(0o755)
    libraries = [word for word in sh("ldd /usr/bin/sleep").stdout.split() if word.startswith("/")]
    for file in ("/usr/bin/sleep", *libraries):
        target = ROOT / file.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        sh(["cp", "-L", file, str(target)])
    if not HOME.exists():
        sh(f"useradd --create-home --home-dir {HOME} {USER} && cp -r {ROOT} {HOME}/root && chown -R {USER} {HOME}/root")
    sh(f"tar -C {ROOT} -c . | podman --cgroup-manager=systemd import - {IMAGE}")
    if GENERATOR.exists():
        QUADLETS.mkdir(parents=True, exist_ok=True)
        for tag in TAGS.values():
            (QUADLETS / f"quadlet-{tag}.container").write_text(
                f"[Container]\nImage={IMAGE}\nExec=/usr/bin/sleep infinity\nNetwork=none\nPodmanArgs=--cgroups=split\n"
                "[Service]\nMemoryMax=128M\n"
            )


def tree(run: Run, unit: str) -> dict[str, list[str]]:
    """The cgroups below a unit's own, and the commands in each."""
    top = run.cgroup(unit)
    found = {}
    for folder in sorted(top.rglob("cgroup.procs")):
        pids = read(folder).split()
        found[str(folder.parent.relative_to(top))] = [read(Path(f"/proc/{pid}/comm")) for pid in pids]
    return found


def own_tree(unit: str) -> Callable[[Run], Observation]:
    """A payload's tree with limits of its own, before and after a reload and a restart."""

    def observe(run: Run) -> Observation:
        run.systemctl("start", unit)
        seen: Observation = {"tree": tree(run, unit)}
        top = run.cgroup(unit)
        seen["limits"] = [read(top / "work/memory.max"), read(top / "work/inner/pids.max")]
        sh("systemctl daemon-reload")
        seen["reloaded"] = tree(run, unit) == seen["tree"]
        seen["controllers"] = sorted(read(top / "cgroup.controllers").split())
        run.systemctl("restart", unit)
        seen["restarted"] = tree(run, unit) == seen["tree"]
        run.systemctl("stop", unit)
        return seen | run.state(unit)

    return observe


def quadlet(run: Run) -> Observation:
    """A container in its service's own cgroup."""
    unit = "quadlet-@V@.service"
    run.systemctl("start", unit)
    seen = run.state(unit)
    # Podman names the payload's cgroup after the container's id.
    found = {re.sub(r"[0-9a-f]{64}", "ID", run.common(name)): words for name, words in tree(run, unit).items()}
    seen["tree"] = {name: words for name, words in found.items() if words}
    sh("systemctl daemon-reload")
    seen["reloaded"] = run.state(unit)
    run.systemctl("restart", unit)
    seen["restarted"] = run.state(unit)
    run.systemctl("stop", unit)
    return seen | {"stopped": run.state(unit)}


def rootless(run: Run) -> Observation:
    """A container of an ordinary user in a delegated service, with limits that its runtime sets."""
    unit = "rootless-@V@.service"
    seen: Observation = {}
    for verb in ("start", "restart"):
        run.systemctl(verb, unit)
        assert wait(lambda: "sleep" in run.commands(unit), 90), f"{unit}: no container"
        seen[verb] = run.state(unit, "User")
        seen[verb].pop("tasks left")
        payloads = list(run.cgroup(unit).glob("libpod-payload-*"))
        seen[verb]["limits"] = [[read(top / name) for name in ("memory.max", "pids.max")] for top in payloads]
    sh("systemctl daemon-reload")
    seen["reloaded"] = [[read(top / name) for name in ("memory.max", "pids.max")] for top in payloads]
    # crun, as root's, switches all that the kernel has on along the path of its containers: `foreign` is about these.
    present = set(read(run.cgroup(unit) / "cgroup.controllers").split())
    seen["controllers"] = sorted(present & set(CONTROLLERS))
    run.systemctl("stop", unit)
    return seen | run.state(unit)


def foreign(run: Run) -> Observation:
    """A controller that systemd knows nothing of, switched on in system.slice by somebody else."""
    unit = "delforeign-@V@.service"
    for top in (CGROUPS, CGROUPS / "system.slice"):
        (top / "cgroup.subtree_control").write_text(f"+{FOREIGN}")
    run.systemctl("start", unit)
    present = read(run.cgroup(unit) / "cgroup.controllers").split()
    run.systemctl("stop", unit)
    return {FOREIGN: FOREIGN in present, "controllers": sorted(set(present) & set(CONTROLLERS))}


def no_foreign() -> str:
    """Why there is no such controller here, or nothing."""
    there = FOREIGN in read(CGROUPS / "cgroup.controllers").split()
    return "" if there else f"The kernel has no controller {FOREIGN}."


def no_quadlet() -> str:
    """Why there are no quadlets here, or nothing."""
    return "" if GENERATOR.exists() else "The release's podman has no quadlets (they came with 4.4)."


begin = nothing
BEHAVIOURS = [
    Behaviour(
        "Delegate=yes, a tree of the payload's own",
        {"deltree-@V@.service": f"[Service]\nType=notify\nNotifyAccess=all\nDelegate=yes\nExecStart={TREE}\n"},
        own_tree("deltree-@V@.service"),
        {"reloaded": True, "restarted": True, "limits": ["16777216", "3"]},
        only_instance=ONLY_INSTANCE,
    ),
    Behaviour(
        "DelegateSubgroup=",
        {
            "delsub-@V@.service": "[Service]\nType=notify\nNotifyAccess=all\nDelegate=yes\nDelegateSubgroup=main\n"
            f"ExecStart={TREE}\n"
        },
        own_tree("delsub-@V@.service"),
        {"reloaded": True, "restarted": True, "limits": ["16777216", "3"]},
        only_instance=ONLY_INSTANCE,
        since=254,
    ),
    Behaviour(
        "A podman quadlet with --cgroups=split",
        {},
        quadlet,
        {"ActiveState": "active"},
        layered=("quadlet-@V@.service",),
        only_instance=ONLY_INSTANCE,
        needs=no_quadlet,
    ),
    Behaviour(
        "A rootless container in a delegated service",
        {
            # Podman remembers the runtime directory, so the runs have the same one. A container's first process
            # takes no SIGTERM.
            "rootless-@V@.service": f"[Service]\nType=exec\nUser={USER}\nDelegate=yes\nMemoryMax=128M\n"
            f"TimeoutStopSec=9s\nRuntimeDirectory={USER}\nEnvironment=XDG_RUNTIME_DIR=/run/{USER} HOME={HOME}\n"
            "ExecStart=/usr/bin/podman --cgroup-manager=cgroupfs --storage-driver=vfs run --rm --replace "
            "--name=fidelity --cgroups=split --network=none --memory=32m --pids-limit=9 --log-driver=none "
            f"--rootfs {HOME}/root /usr/bin/sleep infinity\n"
        },
        rootless,
        {"reloaded": [["33554432", "9"]]},
        only_instance=ONLY_INSTANCE,
    ),
    Behaviour(
        "A controller that systemd does not know, switched on in system.slice",
        {"delforeign-@V@.service": "[Service]\nType=exec\nDelegate=yes\nExecStart=/usr/bin/sleep infinity\n"},
        foreign,
        {FOREIGN: True},
        differs={
            "instance": Difference(
                frozenset({FOREIGN}),
                "systemd hands on the controllers that it knows; hugetlb, misc and the like, which a container runtime "
                "may have switched on in system.slice, end above the layer.",
            )
        },
        only_instance=ONLY_INSTANCE,
        needs=no_foreign,
    ),
]
