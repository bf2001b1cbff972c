# From a fresh clone, with nothing but python3, pip and make:
#   make serve   install what serving needs (no torch) and serve on http://127.0.0.1:8765/mcp
#   make test    install the development and training extras and run the whole suite
#   make check   formatting, lint, types, fast tests
# The two installs share one .venv; a stamp file remembers which of them is up to date.

PYTHON ?= python3
PORT   ?= 8765
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEPS   := pyproject.toml setup.py constraints.txt

export PIP_ROOT_USER_ACTION := ignore

.PHONY: help serve test check format clean adapters

help:
	@sed -n '2,5s/^# *//p' Makefile

serve: $(VENV)/.serve
	$(BIN)/esc-skills serve --transport http --port $(PORT)

test: $(VENV)/.dev adapters
	$(BIN)/python -m pytest -q $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q -m "not slow" $(ARGS)

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# pip is not told to upgrade, so this leaves a development install as it is.
$(VENV)/.serve: $(DEPS) | $(BIN)/python
	@echo "Installing what serving needs into $(VENV) ..."
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: $(DEPS) | $(BIN)/python
	@echo "Installing the development and training extras into $(VENV) ..."
	$(PIP) install --constraint constraints.txt --editable ".[dev,train]"
	@touch $@ $(VENV)/.serve

# langchain-mcp-adapters (DeerFlow's way in) needs mcp 1.x, the server mcp 2.x: one environment cannot hold both.
adapters: $(VENV)/.adapters

$(VENV)/.adapters: | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/adapters
	$(VENV)/adapters/bin/python -m pip install --disable-pip-version-check --quiet "langchain-mcp-adapters>=0.3.2,<0.4"
	@touch $@

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "esc-skills needs Python 3.11 or later; set PYTHON=python3.12, say")'
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info
