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
_TMPFS = _MOUNT.format(mount=f"mount -t tmpfs -o size=2m,mode=755 small {TARGET}")
_AWAY = f"umount {TARGET} || umount -l {TARGET}; systemctl daemon-reload"
_LINEAR, _ERROR = "0 32768 linear $(cat /root/loop) 0", "0 32768 error"
_SWAP = 'dmsetup suspend --noflush eio && dmsetup load eio --table "{table}" && dmsetup resume eio'
_DISK = f"""truncate -s 16M /root/eio.img && mkfs.ext4 -q -F /root/eio.img
losetup -f --show /root/eio.img >/root/loop && dmsetup create eio --table "{_LINEAR}"
mount /dev/mapper/eio {TARGET}"""
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
        f"mount -o remount,nr_inodes=$(df --output=iused {TARGET} | tail -n 1) {TARGET}",
        f"mount -o remount,nr_inodes=9999 {TARGET}",
        _TMPFS,
        _AWAY,
    ),
    "etc-readonly": Strike(
        "EROFS on /etc", f"mount -o remount,ro {TARGET}", f"mount -o remount,rw {TARGET}", _TMPFS, _AWAY
    ),
    "etc-broken": Strike(
        "EIO on /etc (dm-error below ext4)",
        _SWAP.format(table=_ERROR),
        f"{_SWAP.format(table=_LINEAR)}; umount {TARGET} || umount -l {TARGET}; "
        f"e2fsck -fy /dev/mapper/eio >/dev/null 2>&1; mount /dev/mapper/eio {TARGET}; rmdir {TARGET}/lost+found; "
        "systemctl daemon-reload",
        _MOUNT.format(mount=f"{_DISK} && rmdir {TARGET}/lost+found"),
        f"{_AWAY}; dmsetup remove eio; losetup -d $(cat /root/loop); rm /root/eio.img",
    ),
    "run-full": Strike(
        "ENOSPC on /run, where systemd refuses to reload",
        "mount -o remount,size=$(($(df --output=used /run | tail -n 1) + 8))k /run",
        "mount -o remount,size=20% /run",
    ),
    "run-readonly": Strike("EROFS on /run", "mount -o remount,ro /run", "mount -o remount,rw /run"),
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
