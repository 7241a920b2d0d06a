# SPDX-License-Identifier: LGPL-2.1-or-later
"""A signal that comes where Python drops exceptions ends the program all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, time
from gi.repository import GLib
from cgroup_layering import interrupts
from cgroup_layering.errors import Interrupted

def kill(*_):
    os.kill(os.getpid(), signal.{name})
    for _ in range(1000):
        pass
    print("went on", flush=True)

class Object:
    __del__ = kill

def destroy():
    Object()

def call_back():
    GLib.idle_add(kill)
    GLib.MainContext.default().iteration(True)

interrupts.install()
try:
    {where}()
    time.sleep(20)
except Interrupted as error:
    sys.exit(128 + error.number)
"""


@pytest.mark.parametrize("where", ["kill", "destroy", "call_back"])
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_no_signal_is_lost(name: str, code: int, where: str) -> None:
    words = [sys.executable, "-c", PROGRAM.format(name=name, where=where)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=15, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.parametrize("where", ["destroy", "call_back"])
def test_one_that_comes_in_the_hook_itself_is_not_lost(where: str) -> None:
    """As on a machine so busy that the timer is over before the hook is."""
    slow = (
        "import _thread\n"
        "start = _thread.start_new_thread\n"
        "def start_slowly(*words):\n"
        "    _thread.start_new_thread = start\n"
        "    start(*words)\n"
        "    for _ in range(30):\n"
        "        time.sleep(0.001)\n"
        "_thread.start_new_thread = start_slowly\n"
    )
    program = PROGRAM.format(name="SIGTERM", where=where).replace("interrupts.install()", f"{slow}interrupts.install()")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")


@pytest.mark.parametrize("where", ["unraisable", "uncaught"])
def test_other_errors_are_shown_as_before(where: str) -> None:
    raised = "class A:\n    def __del__(self): 1 / 0\nA()" if where == "unraisable" else "1 / 0"
    program = f"from cgroup_layering import interrupts\ninterrupts.install()\n{raised}\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=False)
    assert "ZeroDivisionError" in done.stderr and (done.returncode == 0) == (where == "unraisable")
