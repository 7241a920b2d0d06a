# SPDX-License-Identifier: LGPL-2.1-or-later
"""Delegate=: cgroup trees of a payload's own, containers, user managers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.vm.fidelity.guest.kit import TAGS, Behaviour, Observation, Run, nothing, read, sh

ONLY_INSTANCE = "The payload was promised the memory controller, so there is `instance` tracking alone."
TREE = Path("/usr/local/lib/fidelity-tree")
ROOT = Path("/var/tmp/fidelity-root")
IMAGE = "localhost/fidelity:1"
QUADLETS = Path("/etc/containers/systemd")
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
    seen["tree"] = {run.common(name): words for name, words in tree(run, unit).items() if words}
    sh("systemctl daemon-reload")
    seen["reloaded"] = run.state(unit)
    run.systemctl("restart", unit)
    seen["restarted"] = run.state(unit)
    run.systemctl("stop", unit)
    return seen | {"stopped": run.state(unit)}


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
]
