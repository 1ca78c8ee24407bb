# One command for everything, the same locally and in CI.
#
#   make demo       everything from nothing to the result of an example agent
#   make test       the fast suite, engine tests included
#   make test-all   also the slow ones
#   make test-slow  the slow ones alone
#   make lint       ruff, mypy, import-linter
#   make bench      a table, and bench.json
#   make lock       requirements/*.txt from pyproject.toml (needs uv)
#   make clean      caches and build results; neither .venv nor runs/
#
# Each makes .venv first, from the hashed lock; `make PYTHON=python3.12 ...` chooses another Python,
# `make test ARGS="-k frames"` hands arguments to pytest.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup-env setup demo test test-slow test-all lint bench lock clean

BIN := .venv/bin
STAMP := .venv/.made-from-lock
PYTEST := $(BIN)/python -m pytest --require-engine
LOCK := uv pip compile --quiet --generate-hashes --no-emit-index-url --universal --python-version 3.11

help:
	@sed -n 's/^#   make /make /p' Makefile

setup-env: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml .ci/make-env
	PYTHON="$(PYTHON)" .ci/make-env .venv
	@touch $@

# Starts an engine when none runs, so it belongs before everything that needs one.
setup: $(STAMP)
	$(BIN)/agenttrace setup

demo: setup
	$(BIN)/agenttrace run examples/rule_based

test: setup
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: setup
	$(PYTEST) -m slow $(ARGS)

test-all: setup
	$(PYTEST) $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m tests.bench --output bench.json $(ARGS)

lock:
	$(LOCK) pyproject.toml -o requirements/runtime.txt
	$(LOCK) --extra dev pyproject.toml -o requirements/dev.txt
	$(LOCK) requirements/peers.in -o requirements/peers.txt
	$(LOCK) requirements/peer-server.in -o requirements/peer-server.txt
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-deps --python-version 3.12 \
		requirements/peers-alone.in -o requirements/peers-alone.txt
	cd tests/integration/sdk_agent && $(LOCK) requirements.in -o requirements.txt

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench.json
	find runner tests sandbox_images examples -name __pycache__ -type d -prune -exec rm -rf {} +
