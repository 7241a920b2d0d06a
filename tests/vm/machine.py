# SPDX-License-Identifier: LGPL-2.1-or-later
"""A virtual machine as the tests see it: commands in it, snapshots, reboots."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
LAB = TOP / "vagrant" / "lab"
FOLDERS = ("/etc", "/run/systemd/system", "/run/systemd/system.control", "/run/systemd/transient")
GUEST = "/root/tests"


@dataclass(frozen=True)
class Result:
    """What a command in the guest did."""

    command: str
    code: int
    out: str
    err: str


class Machine:
    """One VM; `host` is testinfra's."""

    def __init__(self, suite: str, host: Any, ssh_config: Path) -> None:
        self.suite = suite
        self.host = host
        self._ssh_config = ssh_config

    def run(self, command: str) -> Result:
        """Run a shell command as root."""
        result = self.host.run(command)
        return Result(command, int(result.rc), str(result.stdout), str(result.stderr))

    def ok(self, command: str) -> str:
        """Run a command that must succeed; its output."""
        result = self.run(command)
        assert result.code == 0, f"{command}\nexit {result.code}\n{result.out}\n{result.err}"
        return result.out.strip()

    def tool(self, *words: str, user: str = "") -> Result:
        """Run cgroup-layering, as root or as an ordinary user."""
        command = shlex.join(("cgroup-layering", *words))
        # No terminal on standard input: a question must not hang.
        return self.run(f"sudo -u {user} {command} </dev/null" if user else f"{command} </dev/null")

    def tool_ok(self, *words: str) -> Result:
        """Run cgroup-layering, which must succeed."""
        result = self.tool(*words)
        assert result.code == 0, f"{result.command}\nexit {result.code}\n{result.out}\n{result.err}"
        return result

    def json(self, *words: str) -> Any:
        """The JSON document that cgroup-layering prints, whatever its exit code."""
        result = self.tool(*words, "--json=short")
        assert result.out, f"{result.command} printed nothing on stdout; stderr:\n{result.err}"
        return json.loads(result.out)

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.ok(f"systemctl show --value -p {name} {shlex.quote(unit)}")

    def cgroup_file(self, cgroup: str, name: str) -> str:
        """The text of a file in a cgroup."""
        return self.ok(f"cat {shlex.quote(f'/sys/fs/cgroup{cgroup}/{name}')}")

    def write(self, path: str, text: str) -> None:
        """Write a file in the guest."""
        folder = shlex.quote(str(Path(path).parent))
        self.ok(f"mkdir -p {folder} && printf %s {shlex.quote(text)} > {shlex.quote(path)}")

    def manifest(self) -> dict[str, list[str]]:
        """What is in /etc and in the runtime folders of unit files."""
        found = json.loads(self.ok(f"python3 {GUEST}/manifest.py {' '.join(FOLDERS)}"))
        return {path: facts for path, facts in found.items() if not _is_session(path)}

    def push(self, *files: Path) -> None:
        """Copy files to the tests' folder in the guest."""
        for file in files:
            self.write(f"{GUEST}/{file.name}", file.read_text())

    def services(self, *states: str) -> dict[str, str]:
        """Loaded services in one of the states (such as `active`), and their cgroups."""
        wanted = ",".join(states)
        names = self.ok(f"systemctl list-units --type=service --state={wanted} --plain --no-legend | cut -d' ' -f1")
        if not names:
            return {}
        blocks = self.ok(f"systemctl show -p Id -p ControlGroup {shlex.join(names.split())}").split("\n\n")
        pairs = (dict(line.split("=", 1) for line in block.splitlines()) for block in blocks)
        return {pair["Id"]: pair["ControlGroup"] for pair in pairs}

    def restore(self, snapshot: str = "installed") -> None:
        """Back to a snapshot, memory included."""
        subprocess.run([LAB, "restore", self.suite, snapshot], check=True, timeout=300)

    def boot_id(self) -> str:
        """The id of this boot."""
        return self.ok("cat /proc/sys/kernel/random/boot_id")

    def forget_connection(self) -> None:
        """Close the shared connection: one into a former boot would hang until its keep-alive gives up."""
        close = ["ssh", "-F", str(self._ssh_config), "-O", "exit", self.suite]
        subprocess.run(close, check=False, capture_output=True, timeout=60)

    def reboot(self) -> str:
        """Reboot and wait until systemd is done; the word of `systemctl is-system-running`."""
        before = self.boot_id()
        # The connection may be gone before the answer comes; testinfra raises RuntimeError then.
        with contextlib.suppress(RuntimeError):
            self.run("systemctl reboot")
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            time.sleep(3)
            self.forget_connection()
            try:
                if self.boot_id() != before:
                    return self.run("systemctl is-system-running --wait").out.strip()
            except (RuntimeError, AssertionError):
                # testinfra raises RuntimeError where ssh itself fails.
                continue
        raise AssertionError(f"{self.suite} did not come back within 10 minutes")


def _is_session(path: str) -> bool:
    """Login sessions are numbered and come and go with every ssh connection."""
    return path.startswith("/run/systemd/transient/session-")
