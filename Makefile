# The commands of this project; `make help` lists them. Everything is made inside the checkout: .venv, .typings.

PYTHON ?= python3
BIN := .venv/bin
RUNTIME := .venv/.runtime-installed
DEV := .venv/.dev-installed
UV_COMPILE := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate

.DEFAULT_GOAL := help
.PHONY: help up test lint bench mutants lock clean

help: ## what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

up: $(RUNTIME) ## run the example mesh, probe every connection, print what happened
	@$(BIN)/peerauth up examples/finance --apps --once

test: $(DEV) ## the whole suite (what needs root is skipped, with the reason, where root is missing)
	@$(BIN)/pytest

lint: $(DEV) ## ruff, mypy --strict, the layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python tools/typestubs.py
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(DEV) ## the ratios that docs/performance.md claims; BENCH=traffic runs one of them
	@$(BIN)/python tools/bench.py $(BENCH)

mutants: $(DEV) ## mistakes put into what decides about security, and which of them no test notices; ONLY='peerauth.ca.*'
	@$(BIN)/python tools/mutants.py $(ONLY)

lock: ## write the lock files anew from pyproject.toml (needs uv)
	$(UV_COMPILE) pyproject.toml tools/build.in -o requirements.lock
	$(UV_COMPILE) pyproject.toml tools/build.in --group dev -c requirements.lock -o requirements-dev.lock

clean: ## remove what the other targets made
	rm -rf .venv .typings .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache mutants build dist

.venv/.made:
	@tools/make-venv $(PYTHON)
	@touch $@

$(RUNTIME): requirements.lock pyproject.toml | .venv/.made
	@tools/install requirements.lock
	@touch $@

$(DEV): requirements-dev.lock requirements.lock pyproject.toml | .venv/.made
	@tools/install requirements-dev.lock
	@touch $(RUNTIME) $@
