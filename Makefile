# Needs: Python 3.11 or newer and make.  Everything else is set up by the goals themselves, in .venv.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(CURDIR)/$(BIN)/python -m

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench bitstreams clean tools

help: ## list the goals
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.core ## inspect, calibrate, quantize and validate a small network that is shipped with the project
	@$(BIN)/bitwright demo

test: lint tools ## lint, type check and run all tests
	@$(RUN) pytest

lint: $(VENV)/.dev ## check style, format and types
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy --strict src

format: $(VENV)/.dev ## format the code and mend what the linter can mend
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

bench: $(VENV)/.dev ## run the benchmarks; each prints what it measured beside what is promised
	@set -e; for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python "$$file"; done

bitstreams: $(VENV)/.dev ## build bitstreams of the open processor, timing strict, with a network ready to run
	@$(RUN) pip install --quiet --disable-pip-version-check -e '.[fpga]'
	@$(BIN)/python scripts/make_bitstreams.py $(BOARDS)

clean: ## remove the environment and all caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

# Compilers and emulators for the generated code.
tools:
	@sh scripts/test_tools.sh

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "bitwright needs Python 3.11 or newer, and '$(PYTHON)' is not.  On Debian or Ubuntu:" >&2; \
	  echo "    apt-get install -y python3 python3-venv" >&2; \
	  echo "or name another one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments.  On Debian or Ubuntu:" >&2; \
	  echo "    apt-get install -y python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps are newer than pyproject.toml when what it asks for is installed.
$(VENV)/.core: pyproject.toml | $(BIN)/python
	$(RUN) pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(RUN) pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.core
