# SPDX-License-Identifier: LGPL-2.1-or-later
"""PyGObject without asyncio: what it asks for at import is there, and the real one is as soon as anything else is."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cgroup_layering.systemd.sparing import bare, without_asyncio


@pytest.fixture
def unimported(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has not imported asyncio; afterwards all is as it was."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "asyncio"}
    for name in before:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "asyncio"]:
        del sys.modules[name]


@pytest.mark.usefixtures("unimported")
def test_what_pygobject_asks_for_is_there() -> None:
    """As gi/_ossighelper.py, gi/overrides/Gio.py and gi/pygi-async.c of 3.58 do."""
    with without_asyncio():
        stand_in = importlib.import_module("asyncio")
        assert issubclass(stand_in.InvalidStateError, Exception)
    assert stand_in._get_running_loop() is None
    assert "asyncio" not in sys.modules, "it stands in only for what is imported meanwhile"


@pytest.mark.usefixtures("unimported")
@pytest.mark.parametrize("meanwhile", [True, False])
def test_anything_else_is_the_real_ones(meanwhile: bool) -> None:
    """At once, or later by a module that has kept the stand-in; from then on it knows of a loop that runs, too."""
    with without_asyncio():
        stand_in = importlib.import_module("asyncio")
        if meanwhile:
            names: dict[str, object] = {}
            exec("from asyncio import coroutines, InvalidStateError", names)  # noqa: S102 - as gi/events.py has it
            assert getattr(names["coroutines"], "__name__", "") == "asyncio.coroutines"

    async def running() -> bool:
        return stand_in._get_running_loop() is real.get_running_loop()

    assert stand_in.get_event_loop is importlib.import_module("asyncio").get_event_loop
    real = sys.modules["asyncio"]
    assert real is not stand_in and real.run(running())
    assert stand_in._get_running_loop() is None
    with pytest.raises(AttributeError, match="'no_such_thing'"):
        _ = stand_in.no_such_thing


def test_what_is_imported_already_stays() -> None:
    with without_asyncio():
        assert importlib.import_module("asyncio") is asyncio
    assert sys.modules["asyncio"] is asyncio


def test_a_failing_import_leaves_nothing() -> None:
    program = "import sys\nfrom cgroup_layering.systemd.sparing import without_asyncio\n"
    program += "try:\n with without_asyncio():\n  import no_such_module\nexcept ImportError:\n print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "cgroup_layering.systemd.sparing" in out.split() and "asyncio" not in out.split()


def test_bare_is_below_what_is_put_around() -> None:
    class Below:
        def iteration(self, block: bool) -> str:
            return f"below {block}"

    class Around(Below):
        def iteration(self, block: bool = True) -> str:
            raise AssertionError

    assert bare(Below, "iteration")(Below(), True) == bare(Around, "iteration")(Around(), True) == "below True"
