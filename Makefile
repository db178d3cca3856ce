# Every target does its own set-up. On a machine with CPython >= 3.11, git and make: `make demo`, `make test`.
#
#   PYTHON=...   the interpreter for the virtual environment (default: python3, or the first that is >= 3.11)
#   VENV=...     where the virtual environment is (default: .venv)
#   ARGS=...     more arguments for the command of demo, test, test-all, test-only, endurance, evidence and the benchmarks
#   A=... B=...  bench-compare: two JSON files of benchmarks
#   DIST=...     test-only: the folder of a distribution, whose tests run where nothing else is installed
#   JOBS=...     how many processes run the tests (default: 3, for two processors: a third of their time they wait)
SHELL := /bin/bash
VENV ?= .venv
ARGS ?=
DIST ?=
JOBS ?= 3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PYTHON

PACKAGES := agentd $(notdir $(wildcard plugins/*/src/agentd_*))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-only checks collect lint format docs docs-serve bench bench-compare bench-rivals conformance endurance evidence clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp is older than a project file or a list of versions: install again.
$(READY): pyproject.toml core/pyproject.toml $(wildcard plugins/*/pyproject.toml) constraints.txt scripts/setup scripts/tools.txt scripts/npm-tools.txt
	@scripts/setup $(VENV)
	@touch $@

setup: $(READY)  ## Make the virtual environment (all other targets do it, too)

demo: $(READY)  ## Watch an agent work on this repository: no key, no network
	@$(BIN)/agentd demo $(ARGS)

PYTEST = $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

test: checks  ## What to run often, in minutes: lint, docs, the tests that are not marked slow
	$(PYTEST) -m "not slow" $(ARGS)

test-all: checks  ## Lint, all tests, docs with warnings as errors: what CI runs
	@rm -f .pytest_cache/v/cache/lastfailed
	$(PYTEST) $(ARGS) || $(BIN)/python scripts/test-again $$?

test-only: $(READY)  ## The tests alone (ARGS="tests/runner -k name"), or those of one distribution (DIST=parser-fence)
	$(if $(DIST),$(BIN)/python scripts/test-alone $(DIST),$(PYTEST)) $(ARGS)

# Side by side: mypy has but one processor.
checks: $(READY)
	@$(MAKE) --no-print-directory -j2 lint docs collect

# Import all tests: an error there is told before one runs, and the processes that run them find them compiled.
collect: $(READY)
	@found=$$($(BIN)/python -m pytest -qq --collect-only -p no:xdist) || { echo "$$found"; exit 1; }

lint: $(READY)  ## One version everywhere, ruff check, ruff format --check, mypy --strict, import contracts
	$(BIN)/python scripts/version --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(addprefix -p ,$(PACKAGES))
	$(BIN)/lint-imports --no-logo

format: $(READY)  ## Let ruff format and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY)  ## Build the documentation into site/, warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

docs-serve: $(READY)  ## Show the documentation on a local port, rebuilt on change
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

bench: $(READY)  ## Measure against agentd 0.8.6 (installed into its own environment)
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

bench-compare: $(READY)  ## What moved beyond noise between two files of the benchmarks (A=FILE B=FILE ARGS="--all")
	$(BIN)/python tests/benchmarks/compare.py $(A) $(B) $(ARGS)

bench-rivals: $(READY)  ## agentd beside other frameworks, each in its own environment (ARGS="--quick", "--only NAME ...", "--write")
	$(BIN)/python tests/rivals/run.py $(ARGS)

conformance: $(READY)  ## Run the MCP project's conformance suite (ARGS="--write" puts the tables into the docs)
	$(BIN)/python tests/conformance/run.py $(ARGS)

endurance: $(READY)  ## Hours of mixed work and kills: does anything grow, is anything lost? (ARGS="--minutes 5"; Ctrl-C, and it goes on)
	@$(BIN)/python tests/endurance/run.py $(ARGS)

evidence: $(READY)  ## Replay public tasks through code and through JSON tools (ARGS="--quick": a few of them)
	$(BIN)/python tests/evidence/run.py $(ARGS)

clean:  ## Remove everything that make has made, the virtual environment too
	rm -rf $(VENV) build dist site demo-workspace .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
