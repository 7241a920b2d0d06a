# SPDX-License-Identifier: LGPL-2.1-or-later
"""The network namespace, and libvirt's daemons started by hand in it.

`ip netns exec` gives a process the namespace; bind mounts over libvirt's five folders give it a libvirt of its own,
so neither the host's libvirt, its settings nor its addresses are touched, with or without systemd on the host.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from lablib.paths import GUESTS, NAMESPACE, LabError, cache, runtime
from lablib.run import lock, logged, output, say, succeeds, write_if_changed

_SETTINGS = {
    # The guests' disks are root's, in root's cache; there is no second tenant to be guarded from.
    "qemu.conf": 'user = "root"\ngroup = "root"\nsecurity_driver = "none"\nremember_owner = 0\n'
    "namespaces = []\ncgroup_controllers = []\n",
    # The socket lies in a folder that only root can open, so no polkit is needed to guard it.
    "libvirtd.conf": 'auth_unix_ro = "none"\nauth_unix_rw = "none"\n',
    "virtlogd.conf": "",
}
# What the Vagrantfile calls the network and the storage pool.
_NAME = "cgroup-layering"
_DAEMONS = ("virtlogd", "libvirtd")
_BIND = 'for pair in $0; do mount --bind "${pair%%:*}" "${pair#*:}" || exit; done; exec "$@"'


def inside(command: Sequence[str]) -> list[str]:
    """`command` as it runs in the namespace with the lab's libvirt in front of it."""
    pairs = " ".join(f"{ours}:{theirs}" for ours, theirs in _folders().items())
    return [*in_namespace(["unshare", "--mount", "--propagation", "private", "bash", "-c", _BIND, pairs]), *command]


def in_namespace(command: Sequence[str]) -> list[str]:
    """`command` as it runs in the network namespace alone."""
    return ["ip", "netns", "exec", NAMESPACE, *command]


def virsh(*words: str, timeout: float = 120) -> str:
    """Output of a virsh command on the lab's libvirt."""
    return output(inside(["virsh", "--quiet", "--connect", "qemu:///system", *words]), timeout)


def start() -> None:
    """Make the namespace, the daemons, the network and the storage pool work; what works already is left alone."""
    with lock("network"):
        if not succeeds(in_namespace(["true"])):
            say(f"making the network namespace {NAMESPACE}")
            # A name that outlived its namespace (a reboot on a disk-backed /run) would be in the way.
            (Path("/run/netns") / NAMESPACE).unlink(missing_ok=True)
            output(["ip", "netns", "add", NAMESPACE])
            shutil.rmtree(runtime(), ignore_errors=True)
        output(["ip", "-n", NAMESPACE, "link", "set", "lo", "up"])
        runtime().mkdir(mode=0o700, exist_ok=True)
        changed = False
        for ours, theirs in _folders().items():
            ours.mkdir(parents=True, exist_ok=True)
            Path(theirs).mkdir(parents=True, exist_ok=True)
        for name, text in _SETTINGS.items():
            changed |= write_if_changed(cache() / "libvirt" / "etc" / name, text)
        for daemon in _DAEMONS:
            _start_daemon(daemon, restart=changed)
        _start_network()
        _start_pool()


def stop() -> None:
    """End the daemons and remove the namespace; the guests must be off."""
    with lock("network"):
        if not succeeds(in_namespace(["true"])):
            return
        if _pid("libvirtd"):
            for line in virsh("net-list", "--name").split():
                virsh("net-destroy", line)
        for daemon in reversed(_DAEMONS):
            _stop_daemon(daemon)
        output(["ip", "netns", "delete", NAMESPACE])
        shutil.rmtree(runtime(), ignore_errors=True)


def is_up() -> bool:
    """Whether both daemons run in the namespace."""
    return succeeds(in_namespace(["true"])) and all(_pid(daemon) for daemon in _DAEMONS)


def images() -> Path:
    """The folder of libvirt's storage pool: disks, with the snapshots in them."""
    return cache() / "libvirt" / "images"


def link_image(box_image: Path, volume: str) -> None:
    """Put a box's disk into the pool as `volume`, as a second name of the same file."""
    target = images() / volume
    if not target.exists():
        os.link(box_image, target)
        virsh("pool-refresh", _NAME)


def exists() -> bool:
    """Whether the namespace is there, and so may hold guests."""
    return succeeds(in_namespace(["true"]))


def _folders() -> dict[Path, str]:
    kept = cache() / "libvirt"
    return {
        kept / "etc": "/etc/libvirt",
        kept / "lib": "/var/lib/libvirt",
        kept / "log": "/var/log/libvirt",
        kept / "cache": "/var/cache/libvirt",
        runtime() / "libvirt": "/run/libvirt",
    }


def _pid(daemon: str) -> int | None:
    try:
        pid = int((runtime() / f"{daemon}.pid").read_text())
        name = (Path("/proc") / str(pid) / "comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return pid if name == daemon else None


def _start_daemon(daemon: str, restart: bool) -> None:
    if restart:
        _stop_daemon(daemon)
    if _pid(daemon):
        if daemon != "libvirtd" or succeeds(inside(["virsh", "--quiet", "--connect", "qemu:///system", "version"]), 20):
            return
        say("libvirtd runs but doesn't answer")
        _stop_daemon(daemon)
    say(f"starting {daemon}")
    pid_file = runtime() / f"{daemon}.pid"
    pid_file.unlink(missing_ok=True)
    logged(inside([f"/usr/sbin/{daemon}", "--daemon", "--pid-file", str(pid_file)]), daemon)


def _stop_daemon(daemon: str) -> None:
    pid = _pid(daemon)
    if not pid:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.kill(pid, number)
        for _ in range(100):
            if _pid(daemon) is None:
                return
            time.sleep(0.1)
    raise LabError(f"{daemon} (process {pid}) can't be ended.")


def _start_network() -> None:
    hosts = "".join(f"<host mac='{guest.mac}' ip='{guest.address}'/>" for guest in GUESTS.values())
    xml = (
        f"<network><name>{_NAME}</name><forward mode='nat'/><bridge name='virbr0' stp='off' delay='0'/>"
        "<ip address='192.168.121.1' netmask='255.255.255.0'>"
        f"<dhcp><range start='192.168.121.100' end='192.168.121.199'/>{hosts}</dhcp></ip></network>\n"
    )
    file = cache() / "libvirt" / "network.xml"
    known = virsh("net-list", "--all", "--name").split()
    if write_if_changed(file, xml) or _NAME not in known:
        virsh("net-define", str(file))
    if _NAME not in virsh("net-list", "--name").split():
        say("starting the NAT network in the namespace")
        virsh("net-start", _NAME)


def _start_pool() -> None:
    images().mkdir(parents=True, exist_ok=True)
    if _NAME not in virsh("pool-list", "--all", "--name").split():
        virsh("pool-define-as", _NAME, "dir", "--target", str(images()))
    if _NAME not in virsh("pool-list", "--name").split():
        virsh("pool-start", _NAME)
