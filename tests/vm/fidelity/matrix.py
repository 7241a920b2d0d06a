# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compare the layered runs of a behaviour with the plain one, and keep the verdicts for the page."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.vm.fidelity.guest.kit import Behaviour, Observation
from tests.vm.machine import GUEST, TOP, Machine

HERE = Path(__file__).resolve().parent
BUILD = TOP / "build"
UNIT = "fidelity-run.service"
PASS, DIFFERENCE, FAILED, NOT_APPLICABLE = "pass", "difference", "failed", "n/a"


class Matrix:
    """The verdicts of one release, in build/fidelity-SUITE.json; a test run replaces those that it gives anew."""

    def __init__(self, suite: str, folder: Path = BUILD) -> None:
        self._file = folder / f"fidelity-{suite}.json"
        self._suite = suite

    def record(self, group: str, name: str, tracking: str, verdict: str, sentence: str = "") -> None:
        """Keep one verdict."""
        document = self._read()
        cell = {"verdict": verdict, "sentence": sentence}
        document["behaviours"].setdefault(group, {}).setdefault(name, {})[tracking] = cell
        self._write(document)

    def facts(self, **more: Any) -> None:
        """Keep facts about the release."""
        self._write(self._read() | more)

    def _read(self) -> dict[str, Any]:
        if self._file.exists():
            return dict(json.loads(self._file.read_text()))
        return {"suite": self._suite, "behaviours": {}}

    def _write(self, document: dict[str, Any]) -> None:
        self._file.parent.mkdir(exist_ok=True)
        self._file.write_text(json.dumps(document, indent=1) + "\n")


def push(machine: Machine) -> None:
    """Put the guest's side of the behaviours into the guest."""
    for file in sorted((HERE / "guest").glob("*.py")):
        machine.write(f"{GUEST}/tests/vm/fidelity/guest/{file.name}", file.read_text())


def run(machine: Machine, *groups: str) -> dict[str, Any]:
    """Run groups of behaviours in the guest: facts about it, and under `seen` what was seen by group, name and run."""
    first, *rest = (json.loads(line) for line in _observed(machine, ",".join(groups)).splitlines())
    seen: dict[str, Any] = {group: {} for group in groups}
    for line in rest:
        cells = seen[line["group"]].setdefault(line["name"], {})
        cells.update({line["run"]: line["seen"]} if "run" in line else {"missing": line["missing"]})
    return {**first, "seen": seen}


def _observed(machine: Machine, groups: str) -> str:
    """What the run printed. It is a service in a slice of its own: a host without memory costs it at most the ssh."""
    files = " ".join(f"-p Standard{name.title()}=truncate:/root/{UNIT}.{name}" for name in ("output", "error"))
    shielded = "-p OOMScoreAdjust=-1000 -p RemainAfterExit=yes --slice=observer.slice --setenv=HOME=/root"
    machine.ok(
        f"systemd-run --quiet --unit={UNIT} {shielded} {files} -p WorkingDirectory={GUEST} "
        f"/usr/bin/python3 -m tests.vm.fidelity.guest.run {groups}"
    )
    while True:
        try:
            # MainPID=0 is the end, and `tail --pid=0` would wait for ever.
            machine.ok(f"p=$(systemctl show --value -p MainPID {UNIT}); [ $p = 0 ] || tail --pid=$p -s 2 -f /dev/null")
            result = machine.show(UNIT, "Result")
            break
        except RuntimeError:
            # testinfra raises RuntimeError where ssh itself fails; the test has a timeout.
            machine.forget_connection()
            time.sleep(5)
    assert result == "success", f"{UNIT}: {result}\n{machine.ok(f'tail -n 40 /root/{UNIT}.error')}"
    return machine.ok(f"cat /root/{UNIT}.output; systemctl stop {UNIT}")


def judge(matrix: Matrix, group: str, behaviour: Behaviour, tracking: str, seen: dict[str, Any]) -> None:
    """Compare one layered run with the plain one and keep the verdict; AssertionError if it is not as promised."""
    verdict, sentence = FAILED, ""
    try:
        if seen["missing"]:
            verdict, sentence = NOT_APPLICABLE, seen["missing"]
        elif tracking == "service" and behaviour.only_instance:
            verdict, sentence = NOT_APPLICABLE, behaviour.only_instance
        else:
            verdict, sentence = _compare(behaviour, tracking, seen["plain"], seen[tracking])
    finally:
        matrix.record(group, behaviour.name, tracking, verdict, sentence)


def _compare(behaviour: Behaviour, tracking: str, plain: Observation, layered: Observation) -> tuple[str, str]:
    assert "error" not in plain, f"plain: {plain['error']}"
    assert "error" not in layered, f"{tracking}: {layered['error']}"
    shown = {key: plain.get(key) for key in behaviour.expect}
    assert shown == dict(behaviour.expect), f"nothing is proven; the plain run shows {plain}"
    different = {
        key: (plain.get(key), layered.get(key)) for key in plain | layered if plain.get(key) != layered.get(key)
    }
    known = behaviour.differs.get(tracking)
    if known is None:
        assert not different, f"plain and {tracking} tracking differ: {different}"
        return PASS, ""
    assert different.keys() == known.keys, f"{different} differ, and {sorted(known.keys)} are known to"
    return DIFFERENCE, known.sentence
