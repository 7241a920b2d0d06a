# SPDX-License-Identifier: LGPL-2.1-or-later
"""Linters and the project's own rules, as ordinary tests; `make setup` installs all that they need."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
NO_HEADER = {".gitignore", "LICENSE", "py.typed", "packages"}
"""Files that have no place for comments, are not ours, or are nothing but a list of names."""
NO_COMMENTS = {".j2", ".md", ".json", ".jsonl"}
"""Templates would carry it into every unit file; texts for people have debian/copyright."""
DEBIAN_DATA = {"changelog", "control", "copyright", "format", "clean"}


def files() -> list[Path]:
    """All files of the project, whether committed yet or not, less what is built or ignored."""
    listing = subprocess.run(
        ["git", "-c", f"safe.directory={TOP}", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=TOP,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    paths = (TOP / os.fsdecode(name) for name in listing.split(b"\0") if name)
    return sorted({path for path in paths if path.is_file() and not path.is_symlink()})


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def shebang(path: Path) -> str:
    first = text(path).partition("\n")[0]
    return first if first.startswith("#!") else ""


def scripts(*interpreters: str) -> list[str]:
    names = "|".join(interpreters)
    return [str(path.relative_to(TOP)) for path in files() if re.search(rf"[/ ](?:{names})\b", shebang(path))]


def sources() -> list[Path]:
    return [path for path in files() if path.suffix == ".py" or "python" in shebang(path)]


def tool(name: str) -> str:
    """Path of a linter: the toolbox's own, or Debian's. Missing is a failure, not a reason to skip."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is missing: run `make setup`"
    return found


def run(*command: str, **environment: str) -> None:
    done = subprocess.run(
        command,
        check=False,
        cwd=TOP,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{' '.join(command[:3])} ...\n{done.stdout}"


def offenders(pattern: str) -> list[str]:
    return [
        f"{path.relative_to(TOP)}:{number}: {line.strip()}"
        for path in files()
        for number, line in enumerate(text(path).splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_ruff() -> None:
    run(tool("ruff"), "check", ".", *scripts("python3"))


def test_ruff_format() -> None:
    run(tool("ruff"), "format", "--check", ".", *scripts("python3"))


@pytest.mark.timeout(600)
def test_mypy() -> None:
    packages = [str(path.parent.relative_to(TOP)) for path in files() if path.match("vagrant/*/__init__.py")]
    assert packages
    loose = [name for name in scripts("python3") if name.startswith("vagrant/") and not name.endswith(".py")]
    run(tool("mypy"), "--strict", "--scripts-are-modules", "cgroup_layering", "tests", *packages, MYPYPATH="vagrant")
    # Scripts without a suffix would all be the module `__main__`.
    for name in loose:
        run(tool("mypy"), "--strict", name, MYPYPATH="vagrant")


def test_shellcheck() -> None:
    # Templates are looked at as what they become, where they are tested.
    shell = [name for name in scripts("sh", "bash", "dash") if not name.endswith(".j2")]
    maintainer = [name for name in shell if name.startswith("debian/cgroup-layering.")]
    assert ".ci/run" in shell
    assert maintainer
    run(tool("shellcheck"), "--external-sources", *shell)


def test_codespell() -> None:
    names = [str(path.relative_to(TOP)) for path in files() if path.name not in ("LICENSE", "requirements-dev.txt")]
    run(tool("codespell"), "--ignore-words-list=crate,ro,uptodate", *names)


def test_every_file_says_its_licence() -> None:
    missing = [
        str(path.relative_to(TOP))
        for path in files()
        if path.name not in NO_HEADER
        and path.suffix not in NO_COMMENTS
        and not (
            path.is_relative_to(TOP / "debian") and (path.name in DEBIAN_DATA or path.suffix in (".docs", ".dirs"))
        )
        and "SPDX-License-Identifier: LGPL-2.1-or-later" not in "\n".join(text(path).splitlines()[:3])
        and path.stat().st_size
    ]
    assert missing == []


def test_no_path_of_a_build_machine() -> None:
    assert offenders(r"(?<![\w.$}-])/(?:home/(?!vagrant/)|work/|builds/|root/\.)" + r"\w") == []


def test_no_name_of_a_mirror_or_registry() -> None:
    assert offenders(r"\b(?:deb|ftp|security|snapshot)\.debian" + r"\.org|\bpypi\." + r"org|python" + "hosted") == []


def test_no_marks_of_unfinished_work() -> None:
    assert offenders(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b") == []


def test_the_bus_is_imported_in_one_place_only() -> None:
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse(text(path))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            if any(name.partition(".")[0] in ("pydbus", "gi") for name in names):
                found.add(path.relative_to(TOP).parent.as_posix())
    # tests/bus holds the other end: a manager on a private bus.
    assert found - {"tests/bus"} == {"cgroup_layering/systemd"}


def test_public_functions_have_docstrings() -> None:
    missing = [
        f"{path.relative_to(TOP)}:{node.lineno}: {node.name}"
        for path in (TOP / "cgroup_layering").rglob("*.py")
        for node in ast.parse(text(path)).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]
    assert missing == []
