# The commands that stay stable: run, test, bench, check, clean. `make` alone lists them.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $$p && break; done)

.PHONY: help run test test-fast bench faults check clean docs lock

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Usher needs Python 3.11 or 3.12; install one, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the locked packages (about 900 MB on disk) ..."
	@if command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1; then \
		uv pip sync -q --python $(BIN)/python --require-hashes requirements.lock && uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	else \
		$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements.lock && \
		$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@

run: $(VENV)/.installed ## everything up locally with live simulated traffic; Ctrl-C stops all
	@exec $(BIN)/usher up $(ARGS)

check: $(VENV)/.installed ## linters, types, imports, schemas: what needs no server
	$(BIN)/ruff check .
	$(BIN)/ruff format --check -q .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/usher schemas check

test: $(VENV)/.installed check ## every test, on real Kafka, Postgres and Valkey that it starts itself
	$(BIN)/pytest --cov --cov-report=term:skip-covered --cov-fail-under=90 -q $(ARGS)

test-fast: $(VENV)/.installed ## the tests that need no server
	$(BIN)/pytest -q -m "not integration and not faults" $(ARGS)

bench: $(VENV)/.installed ## speed and latency beside two references, as JSON lines
	$(BIN)/python -m bench $(ARGS)

faults: $(VENV)/.installed ## kills, stops and restarts things under load, as JSON lines
	$(BIN)/pytest -q -m faults tests/faults $(ARGS)

docs: $(VENV)/.installed ## writes the generated documents
	$(BIN)/usher docs

lock: $(VENV)/.installed ## resolves pyproject.toml into requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 -q --no-emit-index-url --generate-hashes --no-header -o requirements.lock

clean: ## removes the environment, the local data and caches
	@test ! -d .usher || test ! -x $(BIN)/python || $(BIN)/python -c 'import sys; from pathlib import Path; from deploy.local.platform import clean; sys.exit(0 if clean(Path(".usher")) else "usher is running: stop it first")'
	rm -rf $(VENV) .usher .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
