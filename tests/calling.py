# SPDX-License-Identifier: LGPL-2.1-or-later
"""Call the program as its users do, in this process or in one of its own, and what a refusal looks like."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from cgroup_layering.__main__ import main
from tests.planting import ETC, LIB, SIMPLE

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the tool writes only as root")
PROJECT = Path(__file__).resolve().parents[1]
UNITS = {
    f"{LIB}/hello.service": SIMPLE + "MemoryMax=64M\n",
    f"{LIB}/other.service": SIMPLE,
    f"{LIB}/t@.service": SIMPLE,
    f"{LIB}/delegated.service": SIMPLE + "Delegate=yes\n",
    f"{ETC}/masked.service": "-> /dev/null",
    f"{ETC}/alias.service": "-> /usr/lib/systemd/system/hello.service",
    f"{ETC}/multi-user.target.wants/t@1.service": "-> /usr/lib/systemd/system/t@.service",
}
OURS = {
    "etc/systemd/system/system-hello.service.slice",
    "etc/systemd/system/hello.service.d",
    "etc/systemd/system/hello.service.d/zz-cgroup-layering.conf",
}


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program here: a process of its own for each would take most of the time of all unit tests."""
    argv = ["cgroup-layering", *map(str, words)]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    umask = os.umask(0o022)
    os.umask(umask)
    out, err = io.StringIO(), io.StringIO()
    code: object = None
    try:
        with (
            Path(os.devnull).open() as nothing,
            mock.patch.multiple(sys, argv=argv, stdin=nothing),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as end:
        code = end.code
    finally:
        os.umask(umask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert isinstance(code, int)
    return subprocess.CompletedProcess(argv, int(code), out.getvalue(), err.getvalue())


def run_process(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cgroup_layering", *map(str, words)],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", "PYTHONWARNINGS": "ignore"},
    )


def refused(done: subprocess.CompletedProcess[str], code: int, pattern: str) -> None:
    """Exit code, a sentence on stderr (usage may stand before it), nothing on stdout and no traceback."""
    assert done.returncode == code, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith(("cgroup-layering: ", "Error: "))]
    assert len(sentences) == 1 and re.search(pattern, sentences[0]), done.stderr
    assert sentences[0].endswith(".") or not sentences[0].startswith("cgroup-layering")
    assert all(char.isprintable() or char == "\n" for char in done.stderr)
