# SPDX-License-Identifier: LGPL-2.1-or-later
"""`doctor`: what is wrong, or may go wrong, with the host and its layers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from cgroup_layering.cli.options import output_options, root_option, units_argument
from cgroup_layering.codes.code import Level
from cgroup_layering.doctor.check import Examination, examine
from cgroup_layering.doctor.checks import CHECKS
from cgroup_layering.doctor.evidence import Evidence
from cgroup_layering.errors import ExitCode
from cgroup_layering.host import Reader
from cgroup_layering.naming import is_glob
from cgroup_layering.offline import installed_version
from cgroup_layering.output.tables import Output
from cgroup_layering.store import Store
from cgroup_layering.systemd.manager import Manager


@click.command("doctor")
@units_argument(required=False)
@root_option
@output_options
def command(units: tuple[str, ...], root: Path, output: Output) -> int:
    """Look for what is wrong with this host, with layers that don't match their services, and for risks.

    With UNIT, only what concerns these services. Exits with 1 if there is an error or a warning, or a check could not
    run; notes alone are no failure. `explain CODE` tells more of each finding.
    """
    root = root.resolve()
    evidence = Evidence(Store(root), _connect if root == Path("/") else None)
    if not evidence.online:
        installed_version(root)  # an empty mount point must not look sound
    evidence.words = _layered(evidence, units, output) if units else ()
    nothing = bool(units) and not evidence.words
    result = Examination() if nothing else examine(CHECKS, evidence, host=not units)
    if output.json != "off":
        output.document(_document(result))
    elif result.findings:
        rows = [(f.code, f.level, f.unit or "(host)", f.sentence) for f in result.findings]
        output.table(("CODE", "LEVEL", "UNIT", "FINDING"), rows, _footer(result))
    elif not nothing:
        output.say(f"{_footer(result)}")
    for reason in dict.fromkeys(result.not_run.values()):
        codes = [code for code, why in result.not_run.items() if why == reason]
        hint = result.hints.get(reason, "")
        output.complain(f"{_number(len(codes), 'check')} could not run ({', '.join(codes)}): {reason} {hint}".rstrip())
    bad = result.count(Level.ERROR) + result.count(Level.WARNING)
    return ExitCode.FAILURE if bad or result.not_run else ExitCode.OK


def _connect() -> Manager:
    from cgroup_layering.systemd.connecting import connect

    return connect()


def _layered(evidence: Evidence, words: tuple[str, ...], output: Output) -> tuple[str, ...]:
    """The units to look at: those named that have files of ours, aliases followed, and globs.

    Raises NoSuchUnit for what does not exist.
    """
    strays = {path.parent.name.removesuffix(".d") for path in evidence.store.stray_drop_ins()}
    known = {*evidence.all_own, *strays}
    chosen = [word for word in words if word in known or is_glob(word)]
    others = [word for word in words if word not in chosen]
    if others:
        host = Reader(evidence.store, evidence.manager if evidence.online else None).read(others)
        for word in others:
            primary = host.aliases.get(word, word)
            if primary in known:
                chosen.append(primary)
            else:
                output.say(f"{primary} is not layered.")
    return tuple(dict.fromkeys(chosen))


def _footer(result: Examination) -> str:
    counts = ", ".join(_number(result.count(level), level) for level in Level)
    left = f" {_number(len(result.live_only), 'check')} more need the running host." if result.live_only else ""
    more = " `cgroup-layering explain CODE` tells more." if result.findings else ""
    return f"{counts} by {_number(result.checks, 'check')}, {len(result.not_run)} could not run.{left}{more}"


def _number(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _document(result: Examination) -> dict[str, object]:
    return {
        "findings": [{**asdict(finding), "unit": finding.unit or None} for finding in result.findings],
        "errors": result.count(Level.ERROR),
        "warnings": result.count(Level.WARNING),
        "notes": result.count(Level.NOTE),
        "checks": result.checks,
        "not_run": [{"code": code, "reason": reason} for code, reason in result.not_run.items()],
        "live_only": result.live_only,
    }
