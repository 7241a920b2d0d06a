# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run faults on a VM and note each run as it ends: `python -m tests.vm.faults.runs SUITE FAULT...`.

Runs are appended to seen/SUITE.jsonl beside this file, so a series that was broken off goes on where it was, and
whoever has a clone can make the page. The VM has to be up with the package installed (vagrant/lab, vagrant/test); what
the runs need in it is made when it is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.vm.faults.kinds import OUTSIDE, SIGNALS, TITLES, Outside
from tests.vm.guest.strikes import DISK
from tests.vm.machine import GUEST, LAB, TOP

RECORDS = Path(__file__).with_name("seen")
SCRIPTS = TOP / "tests" / "vm" / "guest"
WORDS = ("migrate", "fault-*", "--yes", "--now", "--quiet")
UNITS = ("fault-a.service", "fault-b.service")
SERVICE = """[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
ExecStart=/usr/bin/sleep infinity
MemoryMax=64M
[Install]
WantedBy=multi-user.target
"""
# Generators are most of what a daemon-reload costs in an emulated machine, and none of ours.
QUIET = (
    "mkdir -p /etc/systemd/system-generators; cd /usr/lib/systemd/system-generators && "
    'for name in *; do ln -sf /dev/null "/etc/systemd/system-generators/$name"; done'
)
TRIAL = 20
"""Seconds of a try."""
ENDED = (
    "! systemctl is-active --quiet cgroup-layering-try.timer && "
    "! systemctl is-active cgroup-layering-try.service | grep -q activating"
)
BOOT = 300.0


def records(suite: str) -> list[dict[str, Any]]:
    """The runs that were noted."""
    file = RECORDS / f"{suite}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def push_disk(suite: str) -> None:
    """Bring the guest the file system that the fault of a dying disk needs: it has no mkfs of its own."""
    with tempfile.TemporaryDirectory() as folder:
        disk = Path(folder) / "disk.img"
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", "1024", "-J", "size=1", disk, "8M"], check=True)
        subprocess.run([LAB, "push", suite, disk, DISK], check=True)


class Series:
    """Runs on one VM."""

    def __init__(self, suite: str, seconds: float = 1e9) -> None:
        self.suite = suite
        self.end = time.monotonic() + seconds
        self.config = TOP / "build" / f"ssh-config-{suite}"
        self.config.parent.mkdir(exist_ok=True)
        text = subprocess.run([LAB, "ssh-config", suite], check=True, stdout=subprocess.PIPE, text=True).stdout
        self.config.write_text(text)
        address = next(line.split()[1] for line in text.splitlines() if line.split()[:1] == ["HostName"])
        self.address = address
        RECORDS.mkdir(parents=True, exist_ok=True)

    def ssh(self, command: str, *options: str) -> list[str]:
        """The command that runs `command` in the guest."""
        return ["ssh", "-F", str(self.config), *options, self.suite, command]

    def guest(self, command: str, timeout: float = 300) -> str:
        """Run a command in the guest; what it prints."""
        done = subprocess.run(self.ssh(command), check=True, stdout=subprocess.PIPE, text=True, timeout=timeout)
        return done.stdout.strip()

    def prepare(self) -> None:
        """Two services, a quick reload, and the scripts."""
        for script in ("fault.py", "strikes.py", "manifest.py"):
            text = (SCRIPTS / script).read_text()
            self.guest(f"mkdir -p {GUEST} && printf %s {shlex.quote(text)} >{GUEST}/{script}")
        push_disk(self.suite)
        if "before-faults" in self.guest("ls /root"):
            self.guest("cgroup-layering rollback --now --quiet")  # of a series that was broken off
            return
        for unit in UNITS:
            self.guest(f"printf %s {shlex.quote(SERVICE)} >/etc/systemd/system/{unit}")
        self.guest(f"{QUIET}; systemctl daemon-reload; systemctl enable --now {shlex.join(UNITS)}")
        self.guest(f"python3 {GUEST}/fault.py note; sync")

    def note(self, result: dict[str, Any]) -> None:
        """Append one run."""
        about = {"suite": self.suite, "systemd": self.systemd, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        with (RECORDS / f"{self.suite}.jsonl").open("a") as file:
            file.write(json.dumps(about | result) + "\n")
        short = {
            key: result.get(key) for key in ("fault", "step", "name", "moment", "then", "exit", "found", "problems")
        }
        print(*(f"{key}={value}" for key, value in short.items() if value is not None), flush=True)

    def run(self, faults: list[str], step: int, most: int) -> None:
        """All that is asked for, until the time is over."""
        self.systemd = self.guest("systemctl --version | sed 's/^systemd //;q'")
        self.prepare()
        for fault in faults:
            if fault in OUTSIDE:
                done = sum(record["fault"] == fault for record in records(self.suite))
                for number in range(done, most):
                    if time.monotonic() < self.end:
                        self.note(self.outside(fault, OUTSIDE[fault], number))
            else:
                self.inside(fault, step)

    def inside(self, fault: str, step: int) -> None:
        """The steps of a migration, from the first that was not noted yet."""
        mine = [record for record in records(self.suite) if record["fault"] == fault]
        if any(not record["name"] for record in mine) or (mine and mine[0]["name"] == "early" and len(mine) > 1):
            return
        first = max((record["step"] for record in mine), default=1 - step) + step
        seconds = max(0.0, self.end - time.monotonic())
        options = ["--first", str(first), "--step", str(step), "--turn", str(len(mine)), "--seconds", f"{seconds:.0f}"]
        command = shlex.join(["python3", "-u", f"{GUEST}/fault.py", *options, fault, *WORDS])
        with subprocess.Popen(self.ssh(command), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                self.note(json.loads(line))
        if process.returncode:
            raise SystemExit(f"{fault}: fault.py ended with exit code {process.returncode}")

    def outside(self, fault: str, how: Outside, number: int) -> dict[str, Any]:
        """One run of a fault that strikes at a random moment."""
        begin = time.monotonic()
        then = "nothing" if how.trial else ("rollback", "migrate")[number % 2]
        words = ["cgroup-layering", *WORDS, *([f"--try={TRIAL}"] if how.trial else [])]
        alone = ("-o", "ControlPath=none", "-o", "ControlMaster=no", "-tt")
        moment = round(random.uniform(3.0, 14.0 if how.trial else 9.0), 1)  # noqa: S311
        boot = self.guest("cat /proc/sys/kernel/random/boot_id")
        client = subprocess.Popen(
            self.ssh(shlex.join(words), *alone),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(moment)
        if how.power:
            subprocess.run(
                [LAB, "virsh", "--", "reset", f"cgroup-layering_{self.suite}"], check=True, capture_output=True
            )
        elif how.drop:
            self.network("-I")
            time.sleep(TRIAL)
            self.network("-D")
        os.killpg(client.pid, signal.SIGKILL)
        client.wait()
        if how.power:
            self.booted(boot)
        else:
            self.guest("for n in $(seq 200); do pgrep -x cgroup-layering >/dev/null || exit 0; sleep 0.3; done; exit 1")
        if how.trial and not how.power:
            # The timer's script, or nothing where the run ended before it was armed.
            self.guest(f"for n in $(seq 200); do {ENDED} && exit 0; sleep 0.3; done; exit 1")
        said = self.guest(shlex.join(["python3", f"{GUEST}/fault.py", "after", then, *WORDS]))
        seconds = round(time.monotonic() - begin, 1)
        result: dict[str, Any] = json.loads(said)
        return {"fault": fault, "moment": moment, "seconds": seconds} | result

    def network(self, what: str) -> None:
        """Drop the guest's packets, or let them pass again, in the lab's network alone."""
        for chain, side in (("INPUT", "-s"), ("OUTPUT", "-d")):
            words = ["iptables", what, chain, side, self.address, "-p", "tcp", "-j", "DROP"]
            subprocess.run([LAB, "run", "--", *words], check=True, capture_output=True)

    def booted(self, before: str) -> None:
        """Wait until the guest is up again."""
        deadline = time.monotonic() + BOOT
        while time.monotonic() < deadline:
            time.sleep(2)
            subprocess.run([*self.ssh("")[:3], "-O", "exit", self.suite], check=False, capture_output=True)
            try:
                if self.guest("cat /proc/sys/kernel/random/boot_id", 20) != before:
                    self.guest("systemctl is-system-running --wait || true")
                    return
            except subprocess.SubprocessError:
                continue
        raise SystemExit(f"{self.suite} did not come back")


def main() -> int:
    """The exit code is 1 if a run ended badly."""
    parser = argparse.ArgumentParser(prog="tests.vm.faults.runs", description=__doc__)
    parser.add_argument("suite", choices=("bookworm", "trixie", "forky"))
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no run after so many")
    parser.add_argument("--step", type=int, default=1, help="strike every STEP-th step")
    parser.add_argument(
        "--most", type=int, default=20, help="runs of a fault from outside, those noted before included"
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(TITLES)}; all signals if none")
    options = parser.parse_intermixed_args()
    Series(options.suite, options.seconds).run(options.faults or list(SIGNALS), options.step, options.most)
    bad = [record for record in records(options.suite) if record["problems"]]
    print(f"{len(records(options.suite))} runs noted, {len(bad)} bad", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
