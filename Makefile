# SPDX-License-Identifier: LGPL-2.1-or-later
# Everything from here: `make` lists the targets. All that is built goes to build/, all that is worth keeping
# between checkouts (chroots, boxes, VMs) to the user's cache folder.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

ALL_SUITES := bookworm trixie forky
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' cgroup_layering/_version.py)
DEB := build/cgroup-layering_$(VERSION)_all.deb
VENV := build/venv
PYTHON := $(VENV)/bin/python
PYTEST := $(PYTHON) -m pytest --color=yes
JOBS ?= 2

# Folders that have tests; those on a bus of their own need a session bus to start from.
UNIT := $(sort $(patsubst %/,%,$(dir $(wildcard tests/unit/test_*.py tests/corpus/test_*.py tests/bus/test_*.py))))

.PHONY: help setup lint unit directives deb deb-check demo bench fidelity faults vm-test test test-all clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; \
	    do printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: ## install Debian's packages (as root) and the tools for tests into build/venv
	@.ci/setup
	@$(MAKE) $(VENV)/.stamp

$(VENV)/.stamp: requirements-dev.txt
	@echo "setup: making $(VENV)" >&2
	@rm -rf $(VENV)
	@/usr/bin/python3 -m venv --system-site-packages $(VENV)
	@$(PYTHON) -m pip --quiet --disable-pip-version-check install --requirement requirements-dev.txt
	@touch $@

lint: setup ## ruff, mypy --strict, shellcheck, codespell and the project's own rules
	@$(PYTEST) tests/unit/test_linters.py

unit: setup ## tests that need no VM
	@dbus-run-session -- $(PYTEST) --numprocesses=$(JOBS) --ignore=tests/unit/test_linters.py $(SEARCH) $(UNIT)

directives: setup ## write the manual page of all resource-control directives from the program's table
	@$(PYTHON) .ci/directives >build/directives.new
	@mv build/directives.new docs/reference/cgroup-layering-directives.7.md

deb: setup $(DEB) ## build the Debian package into build/

# Folders are listed too, so that a file that goes leads to a new package.
$(DEB): .ci/deb pyproject.toml README.md CHANGELOG.md LICENSE \
    $(shell find cgroup_layering unit-templates debian docs -name __pycache__ -prune -o -print)
	@.ci/deb $@

deb-check: deb ## install, try and purge the package in a minimal chroot of each release
	@.ci/deb-check $(DEB) $(or $(SUITES),$(ALL_SUITES))

demo: deb ## show on a VM what layering changes; SUITES="bookworm trixie forky" for all releases
	@SUITES="$(or $(SUITES),trixie)" $(PYTHON) vagrant/demo $(DEB)

bench: deb ## measure speed and size in a VM against their bounds; SUITES=forky for another than trixie
	@SUITES="$(or $(SUITES),trixie)" $(PYTHON) vagrant/bench $(DEB)

fidelity: setup ## write docs/reference/fidelity.md from what `make test-all` left in build/fidelity-*.json
	@$(PYTHON) -m tests.vm.fidelity.page

faults: setup ## write docs/reference/faults.md from what `python -m tests.vm.faults.runs` noted in tests/vm/faults/seen
	@$(PYTHON) -m tests.vm.faults.page

vm-test: deb ## the tests on VMs of all releases
	@SUITES="$(or $(SUITES),$(ALL_SUITES))" $(PYTHON) vagrant/test $(DEB)

# One after the other, also with -j: two cores are for the VMs.
test: ## linters, unit tests, the package in chroots, and those VM tests that there is time for
	@$(MAKE) setup
	@$(MAKE) lint
	@$(MAKE) unit
	@$(MAKE) deb
	@$(MAKE) deb-check
	@$(MAKE) vm-test

test-all: ## all of `test`, all VM tests on all releases, and a search for new counterexamples
	@$(MAKE) setup
	@$(MAKE) lint
	@$(MAKE) unit SEARCH=--hypothesis-profile=search
	@$(MAKE) deb
	@$(MAKE) deb-check
	@SUITES="$(or $(SUITES),$(ALL_SUITES))" $(PYTHON) vagrant/test $(DEB) --all

clean: ## remove what was built here (the cache folder stays)
	rm -rf build/venv build/deb build/deb-check build/*.deb
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find cgroup_layering unit-templates tests vagrant -name __pycache__ -prune -exec rm -rf {} +
