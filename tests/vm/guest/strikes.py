# SPDX-License-Identifier: LGPL-2.1-or-later
"""What strikes a migration from outside: shell lines that make the ground, strike, heal and clear away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TARGET = "/etc/systemd/system"
_MOUNT = f"""rm -rf /root/kept && cp -a {TARGET}/. /root/kept
{{mount}}
cp -a /root/kept/. {TARGET}/ && systemctl daemon-reload"""
_NO_ROOM = f"test $(df --output=avail {TARGET} | tail -n 1) = 0"
_TMPFS = _MOUNT.format(mount=f"mount -t tmpfs -o size=2m,nr_inodes=500,mode=755 small {TARGET}")
DISK = "/root/tests/disk.img"
"""An empty ext4 file system, which the runs bring along: the boxes have no mkfs."""
# A loop device whose file is on a tmpfs: when that is full, what is written to new blocks of the disk fails with EIO,
# and so does the file system's journal. Nobody can tell it from a disk that dies.
_DYING = _MOUNT.format(
    mount=f"mkdir -p /root/eio && mount -t tmpfs -o size=16m,mode=700 eio /root/eio && "
    f"cp --sparse=always {DISK} /root/eio/disk && mount -o loop /root/eio/disk {TARGET}"
)
# Mounted anew, as what is in memory of such a disk is not on it.
_HEALED = f"rm /root/eio/filler; umount {TARGET} && mount -o loop /root/eio/disk {TARGET}; systemctl daemon-reload"
_FILLED = (
    "for size in 512M 16M 1M 64K 4K; do n=0; "
    "while fallocate -l $size /var/filler-$size-$n; do n=$((n + 1)); done; rm -f /var/filler-$size-$n; done; "
    "! fallocate -l 4K /var/filler-last"
)
_AWAY = f"umount {TARGET} || umount -l {TARGET}; systemctl daemon-reload"
_LIMIT = "/etc/systemd/system.conf.d/limit.conf"
_HANG = "/run/systemd/system/fault-a.service.d/hang.conf"


@dataclass(frozen=True)
class Strike:
    """One kind of fault. `early` strikes before the program begins instead of at a step of it."""

    title: str
    strike: str
    heal: str = "true"
    ground: str = "true"
    away: str = "true"
    early: bool = False
    fails: bool = False
    """Whether the program must fail: where it does not notice, it may succeed."""
    words: tuple[str, ...] = ()


STRIKES: Mapping[str, Strike] = {
    "bus-restart": Strike(
        "the D-Bus daemon is killed and comes again",
        "systemctl kill -s KILL dbus.service; systemctl start dbus.socket dbus.service",
    ),
    "bus-stop": Strike(
        "the D-Bus daemon is stopped for good",
        "systemctl stop dbus.socket 2>&1; systemctl kill -s KILL dbus.service",
        "systemctl reset-failed dbus.service dbus.socket; systemctl start dbus.socket dbus.service",
    ),
    "reexec": Strike("systemctl daemon-reexec", "systemctl daemon-reexec"),
    "clock-ahead": Strike("the clock jumps a day ahead", "date -s '+1 day'", "date -s '-1 day'"),
    "clock-back": Strike("the clock jumps a day back", "date -s '-1 day'", "date -s '+1 day'"),
    "etc-full": Strike(
        "ENOSPC on /etc", f"head -c 4M /dev/zero >{TARGET}/filler; {_NO_ROOM}", f"rm {TARGET}/filler", _TMPFS, _AWAY
    ),
    "etc-inodes": Strike(
        "no inodes left on /etc",
        f"n=0; while true >{TARGET}/filler$n; do n=$((n + 1)); done; test $n -gt 0",
        f"rm {TARGET}/filler*",
        _TMPFS,
        _AWAY,
    ),
    "etc-readonly": Strike(
        "EROFS on /etc", f"mount -o remount,ro {TARGET}", f"mount -o remount,rw {TARGET}", _TMPFS, _AWAY
    ),
    "etc-eio": Strike(
        "EIO on /etc: a disk that takes no more writes, and its journal aborted",
        "head -c 64M /dev/zero >/root/eio/filler; test $(df --output=avail /root/eio | tail -n 1) = 0",
        _HEALED,
        f"{_DYING}; sync -f {TARGET}",
        f"{_AWAY}; umount /root/eio",
    ),
    "root-full": Strike("ENOSPC on /, with /etc and /var", _FILLED, "rm -f /var/filler-*"),
    "run-full": Strike(
        "ENOSPC on /run, where systemd refuses to reload",
        "mount -o remount,size=$(($(df --output=used /run | tail -n 1) + 8))k /run",
        "mount -o remount,size=20% /run",
    ),
    "run-inodes": Strike(
        "no inodes left on /run",
        "mount -o remount,nr_inodes=$(($(df --output=iused /run | tail -n 1) + 50)) /run; "
        "n=0; while true >/run/filler$n; do n=$((n + 1)); done; test $n -gt 0",
        "mount -o remount,nr_inodes=819200 /run; rm /run/filler*",
    ),
    "run-readonly": Strike(
        "EROFS on /run",  # before the begin: the lock is open for writing then
        "mount -o remount,bind,ro /run",
        "mount -o remount,bind,rw /run",
        "mount --bind /run /run",
        "umount /run || umount -l /run",
        early=True,
        fails=True,
    ),
    "var-readonly": Strike(
        "EROFS on /var", "mount -o remount,bind,ro /var", "mount -o remount,bind,rw /var", "mount --bind /var /var",
        "umount /var || umount -l /var",
    ),
    "reload-limit": Strike(
        "systemd refuses Reload (ReloadLimitBurst=)",
        f"mkdir -p $(dirname {_LIMIT}) && printf '[Manager]\\nReloadLimitIntervalSec=1h\\nReloadLimitBurst=1\\n' "
        f">{_LIMIT} && systemctl daemon-reexec && systemctl daemon-reload",
        # The limit is one of daemon-reexec too; SIGTERM does that without asking it.
        f"rm {_LIMIT}; rmdir $(dirname {_LIMIT}); kill -TERM 1; sleep 5",
        early=True,
        fails=True,
    ),
    "stop-hangs": Strike(
        "a service hangs in stop beyond the timeout",
        "true",
        "while systemctl is-active fault-a | grep -q deactivating; do sleep 1; done",
        f"mkdir -p $(dirname {_HANG}) && printf '[Service]\\nExecStop=/usr/bin/sleep 600\\nTimeoutStopSec=15s\\n' "
        f">{_HANG} && systemctl daemon-reload",
        f"rm -r $(dirname {_HANG}); systemctl daemon-reload; systemctl restart fault-a",
        early=True,
        fails=True,
        words=("--timeout=4",),
    ),
}  # fmt: skip
