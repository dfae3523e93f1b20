# BharatVerse's doorways. Works with GNU make 3.81 (macOS) and later, without root or Docker.
#
#   make up       install what is missing, start everything, print where to look; Ctrl-C stops it
#   make setup    install only
#   make test     all tests, on real parts         (ARGS="-k name" to choose)
#   make lint     style, types and import rules
#   make bench    the performance suite            (ARGS="--quick")
#   make chaos    kill everything, lose nothing    (ARGS="--seed 7 --only 1,2 --database sqlite")
#   make lock     requirements/*.in -> requirements*.txt   (ARGS=--upgrade for newer versions)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN_PINS := requirements.txt requirements-ai.txt
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate

.PHONY: up setup test lint bench chaos lock

up: $(STAMP)
	@$(BIN)/python scripts/up.py

setup: $(STAMP)

test: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python scripts/performance_test.py $(ARGS)

chaos: $(STAMP)
	$(BIN)/python -m tests.chaos $(ARGS)

# In this order: each set is resolved against the ones before it.
lock: $(STAMP)
	@test -x $(BIN)/uv || { echo "make lock needs uv, which could not be installed here." >&2; exit 1; }
	$(LOCK) $(ARGS) requirements/base.in -o requirements.txt
	$(LOCK) $(ARGS) requirements/ai.in -o requirements-ai.txt
	$(LOCK) $(ARGS) requirements/dev.in -o requirements-dev.txt

# uv installs the whole set in a fraction of pip's time; pip does where uv cannot be had. What runs
# is compiled now (uv does not by itself): ten seconds here save every process several at its first
# start. The stamp lets a second `make up` start at once.
$(STAMP): $(RUN_PINS) requirements-dev.txt pyproject.toml
	@$(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null || { \
	  $(PYTHON) -c '$(NEW_ENOUGH)' 2>/dev/null || { \
	    echo "BharatVerse needs Python 3.11 or newer, but '$(PYTHON)' is" \
	      "$$($(PYTHON) --version 2>/dev/null || echo 'not installed')." \
	      "Install one, or name it: make $(or $(MAKECMDGOALS),up) PYTHON=python3.12" >&2; exit 1; }; \
	  echo "Making $(VENV) ..."; \
	  $(PYTHON) -m venv --clear $(VENV) || { \
	    echo "Python could not make a virtual environment." \
	      "On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; }
	@test -x $(BIN)/uv || { \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    "$$(grep '^uv==' requirements-dev.txt)" \
	  || echo "uv cannot be had here; pip installs instead, which takes longer."; }
	@echo "Installing the pinned packages ..."
	@if [ -x $(BIN)/uv ]; then \
	  install="$(BIN)/uv pip install --quiet --python $(BIN)/python"; compile=--compile-bytecode; \
	  dev=requirements-dev.txt; \
	else \
	  install="$(BIN)/python -m pip install --quiet --disable-pip-version-check"; compile=; \
	  dev=$(VENV)/requirements-dev.txt; grep -v '^uv==' requirements-dev.txt > $$dev; \
	fi; \
	run="$(foreach pins,$(RUN_PINS),-r $(pins))"; \
	$$install $$compile $$run && $$install $$run -r $$dev && $$install --no-deps -e . && \
	$(BIN)/python -m compileall -q shared ui workers scripts || { \
	  echo "The packages could not be installed; the lines above say why." \
	    "Mend that and run make again: it goes on where it stopped." >&2; exit 1; }
	@touch $(STAMP)
