# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which acceleration to trust: /dev/kvm only after a box has booted with it up to its login prompt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from lablib.box import Box
from lablib.paths import LabError, cache, memory_mib
from lablib.run import lock, say

_KERNEL = b"Linux version"
_LOGIN = b" login:"
_BROKEN = b"KVM internal error"
_KERNEL_PATIENCE = 12
_PATIENCE = 60


def accelerator(box: Box) -> str:
    """`kvm` or `tcg`, by CGROUP_LAYERING_ACCEL or by booting `box` once; remembered until the machine reboots."""
    forced = os.environ.get("CGROUP_LAYERING_ACCEL")
    if forced:
        if forced not in ("kvm", "tcg"):
            raise LabError(f"CGROUP_LAYERING_ACCEL is {forced!r}; it must be kvm or tcg.")
        return forced
    with lock("probe"):
        file = cache() / "accel.json"
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        try:
            known = json.loads(file.read_text())
            if known["boot"] == boot:
                return str(known["accel"])
        except (OSError, ValueError, KeyError):
            pass
        reason = why_not_kvm(box)
        accel = "tcg" if reason else "kvm"
        say(f"acceleration: {accel}" + (f" ({reason})" if reason else " (a box booted with it)"))
        file.write_text(json.dumps({"boot": boot, "accel": accel, "reason": reason}) + "\n")
        return accel


def why_not_kvm(box: Box) -> str | None:
    """Why /dev/kvm can't be used, or None after `box` reached its login prompt with it."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm isn't there or can't be opened"
    if box.folder is None:
        return "a public box can't be probed; set CGROUP_LAYERING_ACCEL=kvm to use it all the same"
    say("probing /dev/kvm with a real boot")
    with tempfile.TemporaryDirectory(dir=cache()) as scratch:
        console, errors = Path(scratch) / "console", Path(scratch) / "errors"
        command = [
            "qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-smp", "2", "-m", str(memory_mib()),
            "-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot", "-serial", f"file:{console}",
            "-kernel", str(box.folder / "vmlinuz"), "-initrd", str(box.folder / "initrd"),
            "-append", (box.folder / "cmdline").read_text().strip(),
            "-drive", f"file={box.folder / 'box.img'},format=qcow2,if=virtio,snapshot=on",
        ]  # fmt: skip
        with errors.open("w") as sink:
            qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
        try:
            return _watch(qemu, console, errors)
        finally:
            qemu.send_signal(signal.SIGKILL)
            qemu.wait()


def _watch(qemu: subprocess.Popen[bytes], console: Path, errors: Path) -> str | None:
    begin = time.monotonic()
    while (elapsed := time.monotonic() - begin) < _PATIENCE:
        time.sleep(0.2)
        said = console.read_bytes() if console.exists() else b""
        complaint = errors.read_bytes()
        if qemu.poll() is not None or _BROKEN in complaint:
            first = complaint.decode(errors="replace").strip().splitlines()
            return "QEMU gave up: " + (first[0] if first else f"exit code {qemu.returncode}")
        if _LOGIN in said:
            return None
        if elapsed > _KERNEL_PATIENCE and _KERNEL not in said:
            return f"the kernel says nothing within {_KERNEL_PATIENCE} s"
    return f"no login prompt within {_PATIENCE} s"
