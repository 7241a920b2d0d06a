# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bring the VMs up, install the package, run pytest once per VM, side by side as the cores allow."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
LAB = TOP / "vagrant" / "lab"
BUILD = TOP / "build"
SUITES = "bookworm trixie forky"
INSTALLED = "installed"
START = time.monotonic()


class TestFailure(Exception):
    """A step before the tests failed."""


def say(sentence: str) -> None:
    """One line of progress, with the seconds since the start."""
    print(f"[{time.monotonic() - START:5.0f} s] {sentence}", file=sys.stderr, flush=True)


def main() -> int:
    """The exit code is 0 if every VM's tests passed."""
    parser = argparse.ArgumentParser(prog="test", description=__doc__)
    parser.add_argument("package", type=Path, help="the package to install")
    parser.add_argument("--all", action="store_true", help="also what `make test` has no time for")
    parser.add_argument("--jobs", type=int, default=len(os.environ.get("SUITES", SUITES).split()))
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    options, more = parser.parse_args(words[:cut]), words[cut + 1 :]
    suites = os.environ.get("SUITES", SUITES).split()
    BUILD.mkdir(exist_ok=True)
    try:
        _lab("up", *suites)
        _each(suites, options.jobs, lambda suite: _install(suite, options.package))
        codes = _each(suites, options.jobs, lambda suite: _pytest(suite, options.all, more))
    except (TestFailure, subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        say(f"failed: {error}")
        return 1
    for suite in suites:
        log = (BUILD / f"test-{suite}.log").read_text()
        print(f"\n######## {suite}: {'passed' if codes[suite] == 0 else 'FAILED'}\n{log}")
    return max(codes.values())


def _each(suites: Sequence[str], jobs: int, work: Callable[[str], int]) -> dict[str, int]:
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        return dict(zip(suites, pool.map(work, suites), strict=True))


def _lab(*words: str | Path) -> None:
    if subprocess.run([LAB, *words]).returncode:
        raise TestFailure(f"vagrant/lab {' '.join(map(str, words))}")


def _install(suite: str, package: Path) -> int:
    """Install the package on the clean VM and keep that state: what every test module starts from."""
    _lab("restore", suite)
    _lab("push", suite, package, f"/root/{package.name}")
    install = f"DEBIAN_FRONTEND=noninteractive apt-get -qq -y install /root/{package.name}"
    _lab("ssh", suite, "--", f"{install} && cgroup-layering --version")
    _lab("save", suite, INSTALLED)
    say(f"{suite}: {package.name} is installed")
    return 0


def _pytest(suite: str, everything: bool, more: Sequence[str]) -> int:
    """Run the tests on one VM: progress to stderr as it comes, all of it to build/test-SUITE.log."""
    config = BUILD / f"ssh-config-{suite}"
    config.write_text(subprocess.run([LAB, "ssh-config", suite], check=True, stdout=subprocess.PIPE, text=True).stdout)
    chosen = [] if any(word.startswith("tests/") for word in more) else ["tests/vm"]
    command = [sys.executable, "-m", "pytest", *chosen, "-v", "-p", "no:cacheprovider", "--tb=short"]
    command += ["--durations=15", "--timeout=1500", "--suite", suite, "--lab-ssh-config", str(config)]
    command += [f"--junitxml={BUILD}/test-{suite}.xml"]
    command += ["--all"] if everything else []
    environment = os.environ | {"SUITES": suite}
    with (BUILD / f"test-{suite}.log").open("w") as log:
        process = subprocess.Popen(
            [*command, *more], cwd=TOP, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None  # noqa: S101 - PIPE was asked for
        for line in process.stdout:
            log.write(line)
            log.flush()
            if any(word in line for word in ("PASSED", "FAILED", "ERROR")):
                say(f"{suite}: {line.strip()}")
        return process.wait()
