# Set-up, running and testing Isthmus. `make run` and `make test` are all a newcomer needs.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
ARGS ?=
# Two processes of tests, each with servers of its own; a file stays in one of them. End to end, a test has the machine
# for itself.
SIDE_BY_SIDE := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: help install install-test viewer run test lint bench bench-quick bench-deid clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.installed viewer  ## Install into .venv and build the viewer; quick when done

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Isthmus needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.python setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[embedded,ocr]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed setup.cfg
	scripts/debian-packages tests
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

install-test: $(VENV)/.installed-test viewer

viewer: $(VENV)/.installed  ## Build the web application and fetch OHIF
	@scripts/build-viewer

run: install  ## Start everything with demo studies; flags by ARGS="--http 127.0.0.1:9000"
	exec $(BIN)/isthmus serve --demo $(ARGS)

test: install-test  ## Lint, type-check and test everything
	$(MAKE) --no-print-directory lint
	cd viewer && ../scripts/with-node npm test --silent
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) tests --ignore=tests/e2e
	$(BIN)/python -m pytest tests/e2e

lint:  ## Style, types and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.installed-bench: $(VENV)/.installed-test setup.cfg
	scripts/debian-packages benchmarks
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	touch $@

bench: $(VENV)/.installed-bench  ## Measure beside Orthanc and write docs/performance.md; ARGS="--only store,read"
	$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(VENV)/.installed-bench  ## The same, shorter
	$(BIN)/python -m benchmarks --quick $(ARGS)

# Other tools have an environment of their own, in which nothing of ours is.
$(PEERS)/.installed: $(VENV)/.installed-test
	$(BIN)/python -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet dicognito==0.19.0 dicom-anonymizer==2.1.0 deid==0.4.13 'pydicom>=3.0.2,<3.1'
	touch $@

bench-deid: $(PEERS)/.installed  ## Plant identity, de-identify, count what is left; write docs/deidentification-benchmark.md
	$(BIN)/python -m benchmarks.deid $(ARGS)

clean:  ## Remove what was built and installed; never data
	rm -rf $(VENV) $(PEERS) viewer/dist viewer/ohif viewer/node_modules *.egg-info .mypy_cache .ruff_cache .pytest_cache
