# A fresh machine with git, make and Python >= 3.11 needs nothing else: every target sets up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The version of transformers whose behaviour we follow; newer than it, the product's own dependencies are not.
REFERENCE := transformers==4.56.2 tokenizers==0.22.1 huggingface_hub==0.36.2

.PHONY: demo test check setup clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml infra/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint infra/constraints.txt --editable '.[test]'
	$(BIN)/pip install --quiet --no-deps --upgrade --target $(VENV)/reference-v4 $(REFERENCE)
	touch $@

demo: setup
	$(BIN)/shardmill demo

test: setup
	$(BIN)/pytest -q

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info demo-output
