# `make` lists the targets. Everything they need is pinned; what takes long is kept in .venv and in ~/.cache/okiba.

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-cluster check check-lint check-types check-waiting check-also-waiting check-units check-more-units bench clean
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
INPUTS := requirements.lock controller/pyproject.toml runtime/pyproject.toml
PYTEST_ARGS ?=
BENCH ?=
CACHE := $(or $(OKIBA_CACHE_DIR),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/okiba)
# What `make check` remembers, where a second clone finds it: without, mypy takes 32 s of processor time, with it 1 s.
CHECKED := $(CACHE)/check

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## .venv with pinned, hash-checked packages, and MinIO; a second run takes a moment and works offline
	@$(BIN)/python -m okiba.apps.local.tools

demo: setup  ## starts Okiba, deploys the example, uploads a photo and shows what happened when
	@$(BIN)/python -m okiba.apps.demo

test: setup  ## the tests that need no cluster, on real parts
	$(BIN)/pytest -m "not cluster" $(PYTEST_ARGS)

test-cluster: setup  ## those on a real Kubernetes of its own, and on compose (root, Debian); builds both, once
	@$(BIN)/python -m tests.cluster build
	$(BIN)/pytest -m cluster $(PYTEST_ARGS)

check: $(READY)  ## format, lint, spelling, dependencies, types, import contracts, and unit tests with fewer examples
	@$(MAKE) --no-print-directory --jobs=6 --keep-going --output-sync=target \
	    check-waiting check-also-waiting check-units check-more-units check-types check-lint

check-lint: $(READY)
	$(BIN)/ruff format --check --cache-dir $(CHECKED)/ruff .
	$(BIN)/ruff check --cache-dir $(CHECKED)/ruff .
	$(BIN)/codespell
	cd controller && $(CURDIR)/$(BIN)/deptry --no-ansi okiba

check-types: $(READY)
	$(BIN)/mypy --cache-dir $(CHECKED)/mypy

# Four processes with a part of the tests each, which take two thirds of the processor time of xdist's workers: two
# that mostly wait, and two for two cores. Bytecode is kept even where the environment says not to: without it pytest
# rewrites every test anew, which took as long as running them. The import contracts are in tests/arch.
WAITING := tests/unit/kube
ALSO_WAITING := tests/unit/flow tests/unit/slots
HALF := tests/unit/cli tests/unit/control tests/unit/examples
PYTEST_QUICK := PYTHONDONTWRITEBYTECODE= HYPOTHESIS_STORAGE_DIRECTORY=$(CHECKED)/hypothesis \
    $(BIN)/pytest -p no:cacheprovider --hypothesis-profile=quick

check-waiting: $(READY)
	$(PYTEST_QUICK) $(WAITING)

check-also-waiting: $(READY)
	$(PYTEST_QUICK) $(ALSO_WAITING)

check-units: $(READY)
	$(PYTEST_QUICK) $(HALF)

check-more-units: $(READY)
	$(PYTEST_QUICK) tests/unit tests/arch $(patsubst %,--ignore=%,$(WAITING) $(ALSO_WAITING) $(HALF))

bench: setup  ## the table goal | seen | met, also in build/bench.json; some of it: make bench BENCH="warm cold"
	$(BIN)/python -m tests.benchmarks $(BENCH)

cluster: $(READY)  ## a real Kubernetes of two nodes on this machine, for tests; prints the KUBECONFIG line (root, Linux)
	@$(BIN)/python -m tests.cluster up

cluster-down: $(READY)  ## takes it away; programs and images stay in ~/.cache/okiba
	@$(BIN)/python -m tests.cluster down

clean:  ## removes .venv and what tools left; not your state folder, nor ~/.cache/okiba
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# pip tells of each package that another system or Python would need, a hundred lines; bash can drop them from a pipe
# that still fails when pip does.
$(READY): SHELL := bash
$(READY): .SHELLFLAGS := -o pipefail -c

# A name on PATH proves nothing (pyenv's shims end with an error): the first that runs, is recent and has venv. 3.11 is
# what the lock file was made on, so it goes first.
$(READY): $(INPUTS)
	@set -e; \
	for python in "$$PYTHON" $$(which -a python3.11 python3.12 python3.13 python3.14 python3 2>/dev/null) \
	    "$$HOME"/.pyenv/versions/3.1[1-9]*/bin/python; do \
	  "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	  python=; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "No Python 3.11 or later with venv found; install one (Debian: python3-venv), or name it: make setup PYTHON=…" >&2; \
	  exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$python ($$("$$python" -V))"; \
	[ -x $(BIN)/python ] || "$$python" -m venv $(VENV)
	@echo "Installing the pinned packages (some minutes the first time)"
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input \
	    --require-hashes --only-binary :all: -r requirements.lock | sed -u '/^Ignoring .*: markers /d'
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation \
	    --editable runtime --editable controller
	@touch $(READY)
	@echo "Done: $(BIN)/okiba"
