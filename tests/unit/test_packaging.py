# SPDX-License-Identifier: LGPL-2.1-or-later
"""The package carries all of the program, says its version once, and depends on all that it imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from cgroup_layering import __version__

TOP = Path(__file__).resolve().parents[2]
PACKAGE = TOP / "cgroup_layering"
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())

DEBIAN_NAMES = {
    "click": "python3-click",
    "gi": "python3-gi",
    "jinja2": "python3-jinja2",
    "numpy": "python3-numpy",
    "pydbus": "python3-pydbus",
    "rich": "python3-rich",
    "systemd": "python3-systemd",
}


def imported() -> set[str]:
    """The top-level names of all modules that the program imports and that are not Python's own."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"cgroup_layering"}


def depends() -> set[str]:
    control = (TOP / "debian" / "control").read_text().split("\nDepends:", 1)[1]
    block = re.split(r"\n(?=\S)", control, maxsplit=1)[0]
    return set(re.findall(r"^ (python3-[a-z0-9]+)", block, re.MULTILINE))


def test_one_version_everywhere() -> None:
    changelog = subprocess.run(
        ["dpkg-parsechangelog", "--file", TOP / "debian" / "changelog", "--show-field", "Version"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()
    assert changelog == __version__
    assert f"## [{__version__}]" in (TOP / "CHANGELOG.md").read_text()


def test_the_package_depends_on_what_is_imported_and_on_nothing_else() -> None:
    assert depends() == {DEBIAN_NAMES[name] for name in imported()}


def test_every_folder_of_the_program_is_packaged() -> None:
    folders = {
        ".".join(path.parent.relative_to(TOP).parts)
        for path in PACKAGE.rglob("*.py")
        if "__pycache__" not in path.parts
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders | {"cgroup_layering.unit_templates"}


def test_every_template_is_packaged() -> None:
    names = {path.name for path in (TOP / "unit-templates").iterdir()} - {"__pycache__", "__init__.py"}
    assert names
    assert all(name.endswith(".j2") for name in names), names
    assert PROJECT["tool"]["setuptools"]["package-data"]["cgroup_layering.unit_templates"] == ["*.j2"]


def test_make_names_every_target_it_has() -> None:
    listing = subprocess.run(["make", "--no-print-directory"], cwd=TOP, check=True, stdout=subprocess.PIPE, text=True)
    phony = re.search(r"^\.PHONY: (.*)$", (TOP / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert re.findall(r"^ *make ([a-z-]+)", listing.stdout, re.MULTILINE) == phony[1].split()
