# SPDX-License-Identifier: LGPL-2.1-or-later
"""Options in, a VM up, rows out: `make bench`.

Everything is measured inside of the VM, ours and the peer in turn, and each figure is the median of several runs.
"Ours" is the engine's call in one process whose interpreter and imports are up; what starting the program costs is a
row of its own, cli.start. In an emulated VM only the ratios mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from demolib.guest import DemoError, Guest, lab, say
from lablib.paths import SUITES, LabError

from benchlib import booting, shutdown
from benchlib.peers import page_types
from benchlib.rows import BOUNDS, BY_NAME, SCALE, Row, missing, row_of
from benchlib.table import show

ROOT = Path(__file__).resolve().parents[2]
_OUTPUT = ROOT / "build/bench.json"
_SCRIPTS = ROOT / "vagrant/benchguest"
_FOLDER = "/var/tmp/bench"  # noqa: S108 - a folder of the guest's, on its disk
_PATIENCE = 5400  # seconds for all measures in an emulated VM on a busy machine


def main() -> int:
    """The exit code is 0 if every measure is within its bound, 2 for bad usage."""
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measure speed and size in a VM, and hold them against bounds.",
        epilog="SUITES in the environment chooses the VM: bookworm, trixie (the default) or forky.",
    )
    parser.add_argument("package", type=Path, metavar="PACKAGE.deb")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"measures to take; all of them: {', '.join(BOUNDS)}")
    options = parser.parse_args()
    suites = os.environ.get("SUITES", "").split() or ["trixie"]
    package: Path = options.package
    if len(suites) != 1 or suites[0] not in SUITES:
        parser.error(f"SUITES is {' '.join(suites)!r}; the bench runs in one VM: one of {', '.join(SUITES)}.")
    if package.suffix != ".deb" or not package.is_file():
        parser.error(f"{package} is no Debian package; `make deb` builds one.")
    if unknown := set(options.names) - set(BOUNDS):
        parser.error(f"there is no measure named {', '.join(sorted(unknown))}.")
    rows: list[Row] = []
    _write(rows)
    try:
        guest = _prepare(suites[0], package.resolve())
        names = set(options.names)
        for script, known in (("measure .", set(BOUNDS) - SCALE - BY_NAME), ("scale", SCALE)):
            chosen = sorted(names & known)
            if chosen or not names:
                call = f"cd {_FOLDER} && python3 -m benchguest.{script} {' '.join(chosen)}"
                for line in guest.lines(call, _PATIENCE):
                    rows.append(_row(line))
                    _write(rows)  # a bench that is ended early has measured something
        for rebooting in (booting, shutdown):
            if rebooting.NAME in names:
                rows.append(_row(json.dumps(rebooting.samples(guest))))
                _write(rows)
    except (DemoError, LabError) as error:
        say(str(error), "bench")
    say(f"figures are in {_OUTPUT.relative_to(ROOT)}", "bench")
    show(rows, suites[0])
    absent = set(missing(rows)) & set(options.names or BOUNDS)
    if absent:
        say(f"not measured: {', '.join(sorted(absent))}", "bench")
    return 0 if not absent and all(row.ok for row in rows) else 1


def _prepare(suite: str, package: Path) -> Guest:
    """A clean VM with the package, the peers and the scripts. Raises DemoError or LabError."""
    peer = page_types()
    lab("up", suite)
    guest = Guest(suite)
    guest.restore()
    guest.say(f"install {package.name} and the peers")
    guest.push(package, f"/root/{package.name}")
    guest.run(f"DEBIAN_FRONTEND=noninteractive apt-get -qq -y install /root/{package.name}", timeout=600)
    guest.run(f"mkdir -p {_FOLDER}")
    guest.push(peer, f"{_FOLDER}/page-types")
    guest.push(_SCRIPTS, f"{_FOLDER}/")
    guest.say("make the files that are looked at, and measure")
    return guest


def _row(line: str) -> Row:
    found = json.loads(line)
    row = row_of(found["name"], found["unit"], found["ours"], found["peer"])
    spread = max(max(found[who]) / min(found[who]) for who in ("ours", "peer"))
    say(f"{row.name}: ratio {row.ratio:.2f}, bound {row.bound:.2f} (slowest run {spread:.1f} × the quickest)", "bench")
    return row


def _write(rows: list[Row]) -> None:
    _OUTPUT.parent.mkdir(exist_ok=True)
    fresh = _OUTPUT.with_suffix(".new")
    fresh.write_text(json.dumps([row.as_json() for row in rows], indent=2) + "\n")
    fresh.replace(_OUTPUT)
