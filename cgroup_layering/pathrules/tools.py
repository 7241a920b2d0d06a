# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the tools that list rules: from fixed folders, without a shell, with a time limit and a size limit."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading

from cgroup_layering.errors import CgroupLayeringError

# Not the caller's PATH: it should not decide what root runs here.
TOOL_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
TIMEOUT_SECONDS = 15.0
SIZE_LIMIT = 32 << 20
"""Bytes of output; sets are listed one by one, so rules alone come nowhere near."""


class ToolFailed(CgroupLayeringError):
    """A tool is missing, failed, hung, or printed too much."""

    def __init__(self, tool: str, reason: str) -> None:
        super().__init__(tool, reason)
        self.tool = tool
        self.reason = reason

    def __str__(self) -> str:
        return f"`{self.tool}` {self.reason}"


class Tools:
    """The tools of this host."""

    def __init__(self, path: str = TOOL_PATH, timeout: float = TIMEOUT_SECONDS, size_limit: int = SIZE_LIMIT) -> None:
        self.path = path
        self.timeout = timeout
        self.size_limit = size_limit

    def has(self, tool: str) -> bool:
        """Whether the tool is installed."""
        return shutil.which(tool, path=self.path) is not None

    def run(self, tool: str, *words: str) -> str:
        """What a tool prints on stdout. Raises ToolFailed."""
        program = shutil.which(tool, path=self.path)
        if program is None:
            raise ToolFailed(tool, "is not installed")
        try:
            code, data, errors = self._run(program, words)
        except OSError as error:
            raise ToolFailed(tool, f"cannot be run: {error.strerror}") from error
        if code is None:
            raise ToolFailed(tool, f"did not end within {self.timeout:.0f} s")
        if len(data) > self.size_limit:
            raise ToolFailed(tool, f"printed more than {self.size_limit >> 20} MiB")
        if code != 0:
            reason = (errors.strip().splitlines() or [f"exit code {code}"])[-1].strip().rstrip(".")
            raise ToolFailed(tool, f"failed: {reason}")
        return data.decode(errors="surrogateescape")

    def _run(self, program: str, words: tuple[str, ...]) -> tuple[int | None, bytes, str]:
        """Exit code (None: it took too long), output up to just over the limit, and what it complained about."""
        late = threading.Event()
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(
                [program, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd="/",
                env={"PATH": self.path, "LC_ALL": "C"},
            ) as process,
        ):

            def give_up() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(self.timeout, give_up)
            timer.start()
            try:
                assert process.stdout is not None  # noqa: S101 - it is a pipe
                data = process.stdout.read(self.size_limit + 1)
                if len(data) > self.size_limit:
                    process.kill()
                code = process.wait()
            finally:
                timer.cancel()
            errors.seek(0)
            said = errors.read(4096).decode(errors="replace")
        return (None if late.is_set() else code), data, said
