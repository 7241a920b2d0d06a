# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ten traps of layering, the guard against each, and tests that fail without it.

Each guard is taken out of a copy of the project, in which the tests that are named for it must fail. On VMs there are
more: test_whole_host.py has the order of shutdown (1) and every service in its layer (2), test_one_service.py the
controller off at the instance (5), test_values.py foreign settings of the layer (6) and every value where it belongs
(7, 8).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PARTS = ("cgroup_layering", "unit-templates", "tests", "pyproject.toml", "docs", ".ci")
CORPUS = "tests/corpus/test_corpus.py::test_expectations"
LIFTING = "tests/unit/test_lifting.py"
TRANSACTION = "tests/unit/test_transaction.py"


@dataclass(frozen=True)
class Guard:
    """`text` of `file` is the guard; with `without` in its place, every test of `tests` fails."""

    trap: int
    file: str
    text: str
    without: str
    tests: tuple[str, ...]


def corpus(*names: str) -> tuple[str, ...]:
    return tuple(f"{CORPUS}[{name}]" for name in names)


GUARDS = (
    # 1: stopping a slice with default dependencies stops its service, at the beginning of a shutdown too.
    Guard(
        1,
        "unit-templates/layer.slice.j2",
        "DefaultDependencies=no\n",
        "",
        corpus("trap-01-default-dependencies.service-257", "nginx.service-252"),
    ),
    # 2: systemd ignores a slice that it can't take in silence, and a later drop-in can win.
    Guard(
        2,
        "cgroup_layering/transaction.py",
        'for unit, layer in wanted.items() if found[unit].get("Slice") != layer',
        "for unit, layer in wanted.items() if False",
        (f"{TRANSACTION}::test_a_slice_that_systemd_does_not_take",),
    ),
    Guard(
        2,
        "cgroup_layering/naming.py",
        "    if len(layer) > UNIT_NAME_LIMIT:\n        raise NameTooLong(unit, layer)\n",
        "",
        ("tests/unit/test_naming.py::test_the_limit_is_systemds",),
    ),
    Guard(
        2,
        "cgroup_layering/obstacles.py",
        "if os.fsencode(path.name) > os.fsencode(DROP_IN):",
        "if False:",
        corpus("trap-02-slice-outranked.service-252"),
    ),
    # 3: in `service` tracking OOMPolicy= has no effect.
    Guard(
        3,
        "cgroup_layering/trackings.py",
        "accepted or not loses_oom_policy(facts, off)",
        "True",
        (*corpus("trap-03-oom-policy-not-accepted.service-262", "trap-03-oom-policy-unnamed.service-262"),),
    ),
    # 4: systemd-oomd can't see an instance without memory figures, and would choose an empty layer for ever.
    Guard(
        4,
        "unit-templates/layer.slice.j2",
        "ManagedOOMPreference=omit\n",
        "",
        corpus("trap-04-omit-on-the-layer.service-252"),
    ),
    Guard(
        4,
        "cgroup_layering/directives.py",
        'reset="auto", force_instance=_OOMD,',
        'reset="auto",',
        (
            *corpus("trap-04-oomd-on-the-service.service-257"),
            f"{LIFTING}::test_units_that_can_only_have_instance_tracking",
        ),
    ),
    # 5: a StartupMemory... key can't be reset, Delegate= and later drop-ins ask again, a default comes from above.
    Guard(
        5,
        "cgroup_layering/directives.py",
        "        force_instance=_STICKY,\n",
        "",
        corpus("trap-05-startup-memory.service-257", "trap-05-startup-memory.service-262"),
    ),
    Guard(
        5,
        "cgroup_layering/controls.py",
        '("MemoryMin", "0"), ("MemoryLow", "0")]',
        "]",
        corpus("trap-05-defaults-above.service-252", "trap-05-defaults-above.service-257"),
    ),
    Guard(
        5,
        "cgroup_layering/trackings.py",
        'if facts.delegate and "memory" in facts.delegate_controllers:\n        return Reason',
        "if False:\n        return Reason",
        corpus("delegate-service-tracking.service-257"),
    ),
    Guard(
        5,
        "cgroup_layering/trackings.py",
        "    return reset and behind and",
        "    return False and",
        (f"{LIFTING}::test_a_later_drop_in_that_sets_memory_again_forces_instance_tracking",),
    ),
    # 6: DisableControllers=memory on the layer makes systemd ignore the layer's own MemoryMax=.
    Guard(
        6,
        "cgroup_layering/effective/settings.py",
        '    "DisableControllers": [],\n',
        "",
        (
            "tests/unit/test_effective.py::test_what_a_layer_must_not_have",
            f"{TRANSACTION}::test_a_service_that_would_not_be_as_before_is_undone",
        ),
    ),
    Guard(
        6,
        "cgroup_layering/lifting.py",
        "if disabled.intersection(directive.controllers)}",
        "if False}",
        corpus("trap-06-disable-controllers.service-252"),
    ),
    # 7: weights count among siblings, and writeback is billed where the memory is; %i is another in a slice.
    Guard(
        7,
        "cgroup_layering/directives.py",
        "_KEPT_OR_MOVED = (Handling.KEEP, Handling.MOVE)",
        "_KEPT_OR_MOVED = (Handling.KEEP, Handling.KEEP)",
        corpus("trap-07-io-limits-service.service-252"),
    ),
    Guard(
        7,
        "cgroup_layering/directives.py",
        "_WEIGHTS = (Handling.COPY, Handling.COPY)",
        "_WEIGHTS = (Handling.KEEP, Handling.KEEP)",
        corpus("trap-07-weights.service-262"),
    ),
    Guard(
        7,
        "cgroup_layering/lifting.py",
        "value = (resolve(value, specifiers(unit)) or value)",
        "value = value",
        corpus("trap-07-specifier@.service-252"),
    ),
    # 8: a limit covers what outlives an instance, and programs read their own.
    Guard(
        8,
        "cgroup_layering/directives.py",
        "_LIMITS = (Handling.COPY, Handling.MOVE)",
        "_LIMITS = (Handling.MOVE, Handling.MOVE)",
        corpus("trap-08-memory-max.service-257"),
    ),
    Guard(
        8,
        "cgroup_layering/lifting.py",
        "and (limits or name not in LIMITS)",
        "",
        corpus("trap-08-no-layer-limits.service-252"),
    ),
    # 9: a drop-in without its slice file is a service without its limits.
    Guard(
        9,
        "cgroup_layering/transaction.py",
        "        self._file(unit, slice_file, slice_text)\n",
        "",
        (f"{TRANSACTION}::test_the_slice_comes_before_its_drop_in",),
    ),
    Guard(
        9,
        "cgroup_layering/removal.py",
        "        if written is not None and not elsewhere:\n            gone |= store.remove(drop_in)\n",
        "",
        (f"{TRANSACTION}::test_removal_takes_only_what_is_ours",),
    ),
    # 10: each release knows other directives.
    Guard(
        10,
        "cgroup_layering/directives.py",
        "return self.since <= version and (self.until is None or version <= self.until)",
        "return True",
        corpus("trap-10-zswap-252.service-252", "trap-10-memory-limit-262.service-262"),
    ),
)


def test_every_trap_has_a_guard() -> None:
    assert {guard.trap for guard in GUARDS} == set(range(1, 11))


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project without what is built, to take guards out of."""
    folder = tmp_path_factory.mktemp("project")
    for part in PARTS:
        if (TOP / part).is_dir():
            shutil.copytree(TOP / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(TOP / part, folder / part)
    return folder


@pytest.mark.timeout(120)
@pytest.mark.parametrize("guard", GUARDS, ids=[f"{guard.trap}-{number}" for number, guard in enumerate(GUARDS)])
def test_without_its_guard_a_test_fails(copied: Path, guard: Guard) -> None:
    path = copied / guard.file
    text = path.read_text()
    assert text.count(guard.text) == 1, "the table names another guard than the code has"
    names = {test.partition("[")[0] for test in guard.tests}
    try:
        path.write_text(text.replace(guard.text, guard.without))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", "-p", "no:xdist", *guard.tests],
            cwd=copied,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": "", "COLUMNS": "300"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        path.write_text(text)
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    assert done.returncode == 1 and {test.partition("[")[0] for test in failed} == names, done.stdout + done.stderr
    assert all(test in failed for test in guard.tests if "[" in test), f"these do not need the guard: {done.stdout}"
