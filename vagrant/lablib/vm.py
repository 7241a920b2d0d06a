# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guests' life: up through Vagrant, snapshots with memory, back to a snapshot, down, gone."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from lablib import box, network, probe, sshconf
from lablib.paths import GUESTS, HERE, LabError, cache, cpus, log_file, memory_mib, ssh_key, vagrant_home
from lablib.run import in_parallel, lock, logged, say, write_if_changed

CLEAN = "clean"
_BOXES_AT_ONCE = 2


def build_boxes(suites: Sequence[str]) -> dict[str, box.Box]:
    """The boxes of `suites`, two built at a time."""
    return dict(zip(suites, in_parallel(box.ensure, suites, _BOXES_AT_ONCE), strict=True))


def acceleration(suites: Sequence[str]) -> str:
    """`kvm` or `tcg`, probed with a box of the first of `suites`."""
    return probe.accelerator(build_boxes(suites[:1])[suites[0]])


def up(suites: Sequence[str]) -> None:
    """Boot `suites` that don't run, wait until systemd says running, and save the snapshot `clean` of each."""
    network.start()
    boxes = build_boxes(suites)
    for suite in suites:
        _drop_if_outdated(suite, boxes[suite].name)
    with lock("vagrant"):
        fresh = [suite for suite in suites if _needs_boot(suite)]
        if fresh:
            _vagrant_up(fresh, boxes)
    in_parallel(_make_ready, suites, len(suites))


def state(suite: str) -> str | None:
    """libvirt's word for the guest's state (running, shut off ...), or None if there is no such guest."""
    try:
        return network.virsh("domstate", GUESTS[suite].domain).strip()
    except LabError:
        return None


def snapshots(suite: str) -> list[str]:
    """Names of the guest's snapshots."""
    return network.virsh("snapshot-list", GUESTS[suite].domain, "--name").split()


def save(suite: str, name: str) -> None:
    """Save disk and memory of the running guest as snapshot `name`, in place of a former one of that name."""
    _need(suite)
    begin = time.monotonic()
    sshconf.close(suite)
    # No login session shall be in the snapshot, but root's systemd --user, which ends 10 s after the last session
    # and takes seconds to start when emulated, had better be.
    time.sleep(3)
    if name in snapshots(suite):
        network.virsh("snapshot-delete", GUESTS[suite].domain, name)
    network.virsh("snapshot-create-as", GUESTS[suite].domain, name, timeout=300)
    say(f"snapshot {name} saved in {time.monotonic() - begin:.1f} s", suite)


def restore(suite: str, name: str = CLEAN) -> None:
    """Bring disk and memory of the guest back to snapshot `name`, and wait until ssh answers."""
    _need(suite)
    if name not in snapshots(suite):
        raise LabError(f"{suite} has no snapshot {name}; it has: {', '.join(snapshots(suite)) or 'none'}.")
    begin = time.monotonic()
    sshconf.close(suite)
    # libvirt starts a new QEMU for this. The monitor's loadvm in the running one would be quicker, but there the
    # guest's clock, if it is the TSC, can't go back: it jumps ahead, and systemd's watchdog kills journald.
    network.virsh("snapshot-revert", GUESTS[suite].domain, name, "--running", timeout=300)
    reverted = time.monotonic()
    sshconf.wait(suite)
    say(f"back at {name} in {reverted - begin:.1f} s, ssh answers after {time.monotonic() - begin:.1f} s", suite)


def down(suite: str) -> None:
    """Shut the guest down; its disk and snapshots stay."""
    if state(suite) in (None, "shut off"):
        return
    sshconf.close(suite)
    say("shutting down", suite)
    network.virsh("shutdown", GUESTS[suite].domain)
    for _ in range(120):
        if state(suite) == "shut off":
            return
        time.sleep(1)
    say("doesn't shut down; pulling the plug", suite)
    network.virsh("destroy", GUESTS[suite].domain)


def destroy(suite: str) -> None:
    """Remove the guest with its disk and snapshots; its box stays."""
    sshconf.close(suite)
    if state(suite) is None:
        return
    say("destroying", suite)
    if state(suite) != "shut off":
        network.virsh("destroy", GUESTS[suite].domain)
    for name in snapshots(suite):
        network.virsh("snapshot-delete", GUESTS[suite].domain, name)
    with lock("vagrant"):
        logged(vagrant("destroy", "--force", suite), f"vagrant-destroy-{suite}", vagrant_environment())


def vagrant(*words: str) -> list[str]:
    """A Vagrant command on the lab's Vagrantfile, as it runs in the namespace."""
    return network.inside(["vagrant", *words])


def vagrant_environment() -> dict[str, str]:
    """What Vagrant needs in its environment: all its state is in the cache, not in the checkout."""
    return {
        "VAGRANT_HOME": str(vagrant_home()),
        "VAGRANT_CWD": str(HERE),
        "VAGRANT_DOTFILE_PATH": str(cache() / "vagrant"),
        "VAGRANT_DEFAULT_PROVIDER": "libvirt",
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "CGROUP_LAYERING_LAB": str(cache() / "lab.json"),
    }


def _needs_boot(suite: str) -> bool:
    now = state(suite)
    return now is None or (now != "running" and CLEAN not in snapshots(suite))


def _vagrant_up(suites: Sequence[str], boxes: dict[str, box.Box]) -> None:
    accel = probe.accelerator(boxes[suites[0]])
    _describe(boxes, accel)
    say(f"vagrant up {' '.join(suites)} ({accel}, {cpus()} cpus and {memory_mib()} MiB each)")
    begin = time.monotonic()
    for suite in suites:
        log_file(f"console-{suite}").unlink(missing_ok=True)
        folder = boxes[suite].folder
        if folder is not None:
            network.link_image(folder / "box.img", _volume(boxes[suite].name, folder))
    logged(vagrant("up", "--no-color", *suites), "vagrant-up", vagrant_environment())
    say(f"vagrant up took {time.monotonic() - begin:.0f} s")


def _volume(name: str, folder: Path) -> str:
    """vagrant-libvirt's name for a box's disk in the pool; missing it, it copies the disk there, slowly."""
    return f"{name}_vagrant_box_image_0_{int((folder / 'box.img').stat().st_mtime)}_box.img"


def _describe(boxes: dict[str, box.Box], accel: str) -> None:
    file = cache() / "lab.json"
    machines = json.loads(file.read_text())["machines"] if file.exists() else {}
    for suite, one in boxes.items():
        machines[suite] = {
            "box": one.name,
            "key": str(ssh_key()) if one.folder else None,
            "mac": GUESTS[suite].mac,
            "memory": memory_mib(),
            "cpus": cpus(),
            "accel": accel,
            "console": str(log_file(f"console-{suite}")),
            "definition": _definition(),
        }
    write_if_changed(file, json.dumps({"machines": machines}, indent=1) + "\n")


def _make_ready(suite: str) -> None:
    with lock(f"guest-{suite}"):
        if state(suite) != "running":
            restore(suite)
            return
        if CLEAN in snapshots(suite):
            say("runs already", suite)
            return
        sshconf.wait(suite)
        say("ssh answers; waiting for systemd", suite)
        word = subprocess.run(
            sshconf.ssh(suite, "systemctl is-system-running --wait; systemctl --failed --plain --no-legend"),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900,
        ).stdout.split("\n", 1)  # fmt: skip
        if word[0] != "running":
            raise LabError(f"{suite} booted, but systemd says {word[0]!r}: {' '.join(word[1:]).strip()}")
        say("systemd says running", suite)
        save(suite, CLEAN)
        sshconf.wait(suite)


def _drop_if_outdated(suite: str, name: str) -> None:
    file = cache() / "lab.json"
    if state(suite) is None or not file.exists():
        return
    former = json.loads(file.read_text())["machines"].get(suite, {})
    if former and former["box"] != name:
        say(f"made from the box {former['box']}, which is outdated", suite)
        destroy(suite)
    elif former and former.get("definition") != _definition():
        say("made from another Vagrantfile, which is outdated", suite)
        destroy(suite)


def _definition() -> str:
    """A hash of the Vagrantfile: libvirt keeps what it said (such as the kernel's command line) with the machine."""
    return hashlib.sha256((HERE / "Vagrantfile").read_bytes()).hexdigest()[:12]


def _need(suite: str) -> None:
    if network.exists() and not network.is_up():
        network.start()
    if not network.exists() or state(suite) is None:
        raise LabError(f"{suite} isn't there; make it with: vagrant/lab up {suite}")
