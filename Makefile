# Two commands on a fresh machine: `make train` and `make test`. They need Python >= 3.11 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: train test first-day test-gpu faults lint types bench clean

train: $(VENV)/.installed        ## make the environment, train the default experiment on real digits and test it
	$(BIN)/dltrain

test: $(VENV)/.installed-test    ## make the environment with the test extras and run the whole suite
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

first-day: $(VENV)/.installed-test  ## every command of a newcomer's first day, each a process, from an empty folder
	cd "$$(mktemp -d)" && PATH="$(abspath $(BIN)):$$PATH" bash "$(CURDIR)/tests/first_day.sh"

test-gpu: $(VENV)/.installed-test  ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

faults: $(VENV)/.installed-test  ## kills, signals, full disks, damage and hostile input: the figures of RELIABILITY.md
	DLTRAIN_FAULTS=full $(BIN)/python -m pytest tests/faults -s

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

bench: $(VENV)/.installed-test   ## the engine against hand-written loops, on MNIST
	$(BIN)/python -m benchmarks.engine --fast

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(f"dltrain needs Python 3.11 or newer, not {v}: make PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	@touch $(VENV)/.installed $@

clean:                           ## remove the environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache dist build
