# toxmesh: `make run` starts a node, `make test` runs all checks. Both set everything up themselves.
#
#   make run [ARGS="--dev"]   start a node
#   make test                 lint, types, import contracts, tests with coverage, wheel
#   make test-slow            the tests that take minutes (CI's second stage)
#   make lint | bench         one part alone
#   make wheel | sdist | deb  what is installed elsewhere, in dist/ (docs/install.md)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3))
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PYTEST := $(BIN)/python -m pytest
BUSY := -n 2 --dist worksteal
WAITING := -n 3 --dist worksteal
# Tests start some hundred nodes, each of many processes: none of them is to compile its modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-slow lint unit process peers wheel sdist deb wheel-test bench clean
.DEFAULT_GOAL := test

run: $(VENV)/.run-stamp
	@exec $(BIN)/toxmesh run $(ARGS)

test: lint unit process wheel-test

lint: $(VENV)/.dev-stamp
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# In one process, with made-up time: as many at once as there are cores. The largest simulations are
# marked no_cover, since coverage makes them three times as long and smaller tests run the same lines.
unit: $(VENV)/.dev-stamp
	$(PYTEST) -q $(BUSY) -m "not slow and not process and not interop" \
		--cov=core --cov-branch --cov-report=term:skip-covered

# Real processes and the reference's programs: they wait for two thirds of their time, so three at a
# time; then those that measure, or whose time is short, one after the other.
process: $(VENV)/.dev-stamp peers
	$(PYTEST) -q $(WAITING) -m "(process or interop) and not slow and not alone"
	$(PYTEST) -q -m "alone and not slow"

test-slow: $(VENV)/.dev-stamp peers
	$(PYTEST) -q -m slow

# libtoxcore and tox-bootstrapd, below .peers/: nothing is installed on the system.
peers: $(VENV)/.dev-stamp
	@$(BIN)/python -m tests.interop.peers || { test -z "$${CI:-}$${TOXMESH_REQUIRE_PEERS:-}" && \
		echo "the interop tests that need what is missing will be skipped"; }

wheel: $(VENV)/.dev-stamp
	@rm -rf dist build
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

sdist: $(VENV)/.dev-stamp
	@mkdir -p dist && rm -f dist/toxmesh-*.tar.gz
	$(BIN)/python -m build --sdist --no-isolation --outdir dist .

# For the Debian release of this machine, and its Python.
deb: wheel
	VENV=$(VENV) ops/debian/build dist/toxmesh-*.whl dist

wheel-test: wheel sdist
	$(BIN)/python -m tests.packaging.check dist

bench: $(VENV)/.dev-stamp peers
	$(BIN)/python -m tests.bench $(ARGS)

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "toxmesh needs Python 3.11 or newer: apt-get install python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "toxmesh needs Python 3.11 or newer, and $(PYTHON) is older: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y python3-venv; \
		else \
			echo "Python's venv module is missing: sudo apt-get install python3-venv" >&2; exit 1; \
		fi; }
	$(PYTHON) -m venv --clear $(VENV)

PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(VENV)/.run-stamp: pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.dev-stamp: pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.run-stamp
