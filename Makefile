# Everything that a newcomer or a developer does here. Only Python >= 3.11 and make are needed; all else goes into .venv.
#
#   make demo    set up and run real binaries of both architectures
#   make test    set up and run the tests                        (ARGS='-k futex' goes to pytest)
#   make lint    formatting, lint and types
#   make bench   the benchmarks
#   make demos   rebuild the demo programs that are committed;   make vdso: the vDSO images
#   make check-demos check-vdso   rebuild them elsewhere and compare
#   make clean   remove everything that was made

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,$(if \
  $(shell $(p) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(p))))
WORKERS ?= 2
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
CODE := minikern arch userland tests benchmarks

DEMO_FLAVOURS := x86_64-musl aarch64-musl
DEMO_BUILD = userland/build.py $(foreach flavour,$(DEMO_FLAVOURS),--flavour $(flavour)) \
  $$($(BIN)/python -c 'from minikern.demos import DEMOS; print(*(each.name for each in DEMOS))')

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.run
	@$(BIN)/minikern demo

test: $(VENV)/.test
	@$(BIN)/python -m pytest -q -n $(WORKERS) $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy $(CODE)

bench: $(VENV)/.test
	@for each in benchmarks/*.py; do $(BIN)/python $$each || exit 1; done

demos: $(VENV)/.test
	@$(BIN)/python $(DEMO_BUILD) --out minikern/demos

check-demos: $(VENV)/.test
	@rm -rf build/demos
	@$(BIN)/python $(DEMO_BUILD) --out build/demos >/dev/null
	@for flavour in $(DEMO_FLAVOURS); do diff -r minikern/demos/$$flavour build/demos/$$flavour || exit 1; done
	@echo "the demo programs are what their sources make"

vdso check-vdso: $(VENV)/.test
	@$(BIN)/python arch/build_vdso.py $(if $(filter check-%,$@),--check)

clean:
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis userland/.build
	@find . -name __pycache__ -prune -exec rm -rf {} +

# The virtual environment, in three sizes; each is installed once, and again when pyproject.toml changes.

$(VENV)/bin/python:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	@echo "installing minikern and what it runs on"
	@$(PIP) -e .
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	@echo "installing minikern and what the tests need"
	@$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.run

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing minikern and what developers need"
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.run $(VENV)/.test

.PHONY: help demo test lint bench demos check-demos vdso check-vdso clean
