# A fresh machine with git, make and Python >= 3.11 needs nothing else: every target sets up .venv first.
PYTHON ?= python3
ROUNDS ?= 10
SEEDS ?= 1000
CASES ?= 5000
PROCESSES ?= 2
VENV := .venv
BIN := $(VENV)/bin
# The version of transformers whose behaviour we follow; newer than it, the product's own dependencies are not.
REFERENCE := transformers==4.56.2 tokenizers==0.22.1 huggingface_hub==0.36.2
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check simulate chaos fuzz peers setup clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo     run the bundled jobs, offline, and show what comes out'
	@echo 'make test     run every test'
	@echo 'make check    lint, format and types'
	@echo 'make simulate the ledger, the driver and the lease through SEEDS=1000 lives of crashes, in virtual time'
	@echo 'make chaos    jobs that lose workers, nodes, drivers and storage, ROUNDS=10 of them, against undisturbed ones'
	@echo 'make fuzz     CASES=5000 damaged files and records of every format, each to end in rows, quarantine or an error'
	@echo 'make peers    install what tests/bench/peers.py measures the product against'
	@echo 'make setup    only set up $(VENV), which the others do by themselves; PYTHON=... picks the interpreter'
	@echo 'make clean    remove what the others have made'

demo: setup
	$(BIN)/shardmill demo

test: setup
	$(BIN)/pytest -q

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

simulate: setup
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --processes $(PROCESSES)

chaos: setup
	$(BIN)/python -m tests.chaos --rounds $(ROUNDS)

fuzz: setup
	$(BIN)/python -m tests.fuzz --cases $(CASES)

peers: $(VENV)/peers/.installed

$(VENV)/peers/.installed: infra/peers.txt $(VENV)/.installed
	@$(BIN)/pip install --quiet --no-deps --upgrade --target $(VENV)/peers --requirement infra/peers.txt
	@touch $@

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml infra/constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	    'shardmill needs Python 3.11 or newer, as $(PYTHON) or named: make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 1; }
	@echo 'Setting up $(VENV): some minutes, once.'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --constraint infra/constraints.txt --editable '.[test]'
	@$(BIN)/pip install --quiet --no-deps --upgrade --target $(VENV)/reference-v4 $(REFERENCE)
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output
