# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures for tests on a real VM: `--suite` says which; vagrant/test brings it up and installs the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import testinfra

from tests.vm.machine import TOP, Machine

INSTALLED = "installed"
HERE = Path(__file__).resolve().parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of vagrant/test."""
    parser.addoption("--suite", required=True, help="the VM, such as trixie")
    parser.addoption("--lab-ssh-config", required=True, help="what `vagrant/lab ssh-config` prints, in a file")
    parser.addoption("--all", action="store_true", help="also what `make test` has no time for")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `long` belong to --all, and so do those marked `on` other releases than this one."""
    if config.getoption("--all"):
        return
    suite = str(config.getoption("--suite"))

    def wanted(item: pytest.Item) -> bool:
        on = item.get_closest_marker("on")
        return item.get_closest_marker("long") is None and (on is None or suite in on.args)

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = [item for item in items if wanted(item)]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Show a failure when it happens: the summary can be half an hour away."""
    if report.failed:
        print(f"\n{report.nodeid} ({report.when}):\n{report.longreprtext}", flush=True)


@pytest.fixture(scope="session")
def everything(pytestconfig: pytest.Config) -> bool:
    """Whether all of it is wanted, however long it takes."""
    return bool(pytestconfig.getoption("--all"))


@pytest.fixture(scope="session")
def machine(pytestconfig: pytest.Config) -> Machine:
    """The VM, in whatever state the last test left it."""
    suite = str(pytestconfig.getoption("--suite"))
    config = Path(str(pytestconfig.getoption("--lab-ssh-config")))
    host = testinfra.get_host(f"ssh://{suite}", ssh_config=str(config))
    return Machine(suite, host, config)


@pytest.fixture(scope="module")
def fresh(machine: Machine) -> Iterator[Machine]:
    """The VM with the package and the guest's side of the tests installed, and nothing else: once per module."""
    machine.restore(INSTALLED)
    machine.push(HERE / "pagereader.py", *sorted((HERE / "guest").glob("*.py")))
    workload = TOP / "vagrant" / "workload"
    machine.push(workload / "persist", workload / "measure", workload / "hello.service")
    yield machine
