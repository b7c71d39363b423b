# `make demo` and `make test` do all of their set-up: Python 3.11 or newer and GNU make are enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUTPUT ?= results
JOBS ?= 2
AXE := axe-core@4.14.1

# Errors only: neither progress nor warnings about the index.
PIP := -m pip --disable-pip-version-check --quiet --quiet install --constraint constraints.txt
SETUP_FILES := pyproject.toml constraints.txt

.PHONY: help demo test lint format browser chromium bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    install, then score the embedded demo models on the demo tasks"
	@echo "make test    install, then lint, type-check and test"
	@echo "make lint    ruff and mypy"
	@echo "make format  let ruff rewrite the code"
	@echo "make browser what the tests in a browser need: Chromium (as root, by apt-get) and axe-core (by npm)"
	@echo "make bench   compare with lm-eval side by side (hours; see bench/README.md)"
	@echo "make clean   remove what make made"

demo: $(VENV)/.installed
	$(BIN)/lmeval run --model demo --tasks demo_ppl,demo_cloze,demo_qa,demo_classification,demo_translation --output $(DEMO_OUTPUT) --no-cache
	$(BIN)/lmeval run --model demo-masked --tasks demo_ppl,demo_cloze,demo_classification,demo_minimal_pairs --output $(DEMO_OUTPUT) --no-cache
	$(BIN)/lmeval run --model demo-seq2seq --tasks demo_ppl,demo_cloze,demo_qa,demo_classification,demo_translation --output $(DEMO_OUTPUT) --no-cache

test: lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope  # what a module sets up is set up once

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Without these tests/browser is skipped, saying why; playwright itself comes with the dev extra.
browser: chromium .browser/axe.min.js

chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
	  test "$$(id -u)" = 0 || { echo "No chromium: run 'apt-get install chromium' as root, or set LMEVAL_CHROMIUM." >&2; exit 1; }; \
	  echo "Installing Chromium ..."; export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && \
	  apt-get -qq install --yes --no-install-recommends chromium fonts-dejavu-core >/dev/null; }

.browser/axe.min.js: Makefile
	@echo "Bringing $(AXE) ..."
	@mkdir -p .browser && cd .browser && rm -f axe-core-*.tgz && npm pack --silent $(AXE) >/dev/null && \
	  tar -xzf axe-core-*.tgz --strip-components=1 package/axe.min.js && rm axe-core-*.tgz && touch axe.min.js

bench: $(VENV)/.installed-dev $(VENV)-bench/.installed $(VENV)-minicons/.installed
	$(BIN)/python -m bench.matmul
	$(BIN)/python -m bench.run $(BENCH_ARGS)
	$(BIN)/python -m bench.scaling
	$(BIN)/python -m bench.planner
	$(BIN)/python -m bench.generation
	$(BIN)/python -m bench.generation --growth
	$(BIN)/python -m bench.table
	$(BIN)/python -m bench.masked

clean:
	rm -rf $(VENV) $(VENV)-bench $(VENV)-minicons .bench .browser .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "lmeval needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing)." >&2; \
	  echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Creating $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { echo "'$(PYTHON) -m venv' failed (Debian: apt install python3-venv)." >&2; \
	  rm -rf $(VENV); exit 1; }

# Stamps: set-up is done again only when what is declared changes.
$(VENV)/.installed: $(SETUP_FILES) | $(VENV)/bin/python
	@echo "Installing lmeval and what it needs (some minutes the first time) ..."
	@$(BIN)/python $(PIP) --editable '.[gguf]'
	@touch $@

$(VENV)/.installed-dev: $(SETUP_FILES) | $(VENV)/bin/python
	@echo "Installing lmeval and what its development needs (some minutes the first time) ..."
	@$(BIN)/python $(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

# minicons needs transformers 4.
$(VENV)-minicons/.installed: bench/minicons.txt | $(VENV)/bin/python
	@echo "Installing minicons for the comparison ..."
	@test -x $(VENV)-minicons/bin/python || $(PYTHON) -m venv $(VENV)-minicons
	@$(VENV)-minicons/bin/python -m pip --disable-pip-version-check --quiet install --requirement bench/minicons.txt
	@touch $@

# lm-eval gets an environment of its own, with the same torch and transformers.
$(VENV)-bench/.installed: bench/requirements.txt constraints.txt | $(VENV)/bin/python
	@echo "Installing lm-eval for the comparison ..."
	@test -x $(VENV)-bench/bin/python || $(PYTHON) -m venv $(VENV)-bench
	@$(VENV)-bench/bin/python $(PIP) --requirement bench/requirements.txt
	@touch $@
