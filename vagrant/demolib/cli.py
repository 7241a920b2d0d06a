# SPDX-License-Identifier: LGPL-2.1-or-later
"""Options in, VMs up, results out."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from demolib.guest import DemoError, lab, say
from demolib.runs import ROOT, Result, demonstrate
from demolib.table import show

_OUTPUT = ROOT / "build/demo.json"


def main() -> int:
    """Exit code 0 if every VM showed what it should."""
    options = _parser().parse_args()
    suites = os.environ.get("SUITES", "").split() or ["trixie"]
    package: Path = options.package
    if package.suffix != ".deb" or not package.is_file():
        say(f"{package} is no Debian package; `make deb` builds one.")
        return 2
    say(f"VMs: {', '.join(suites)}")
    try:
        lab("up", *suites)
    except DemoError as error:
        say(str(error))
        return 1
    results: list[Result] = []
    failed: list[str] = []
    for suite in suites:
        try:
            results.append(demonstrate(suite, package.resolve(), options.tracking))
        except DemoError as error:
            say(str(error), suite)
            failed.append(suite)
    _write(results)
    show(results)
    if failed:
        say(f"no result from {', '.join(failed)}")
    return 0 if not failed and all(result.shown for result in results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="demo",
        description="Run a service on VMs, plain and layered, and show who pays for what it leaves behind.",
        epilog="SUITES in the environment chooses the VMs: any of bookworm, trixie (the default) and forky.",
    )
    parser.add_argument("package", type=Path, metavar="PACKAGE.deb")
    parser.add_argument("--tracking", choices=("instance", "service"), default="instance")
    return parser


def _write(results: list[Result]) -> None:
    _OUTPUT.parent.mkdir(exist_ok=True)
    fresh = _OUTPUT.with_suffix(".new")
    fresh.write_text(json.dumps([result.as_json() for result in results], indent=2) + "\n")
    fresh.replace(_OUTPUT)
    say(f"figures are in {_OUTPUT.relative_to(ROOT)}")
