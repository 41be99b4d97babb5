# Everything runs from .venv, which is made once and again when pyproject.toml or constraints.txt change.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test docs dashboards rules bench soak lint clean

VENV := .venv
PY := $(VENV)/bin/python
PINS := pyproject.toml constraints.txt
# Compiled on all cores instead, otelog itself too: where PYTHONDONTWRITEBYTECODE is set each process would do it anew.
PIP := $(PY) -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt
COMPILE := $(PY) -m compileall -q -q -j 0 $(VENV)/lib otelog tests tools || true

help: ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Run a small shop that logs through otelog, and reconcile every record at the end
	@$(VENV)/bin/otelog demo $(ARGS)

test: $(VENV)/.test ## Lint, types, all tests, a real Collector, and the other Pythons found here; ONLY="unit" for some of it
	@$(PY) tools/run_tests.py $(addprefix --only ,$(ONLY))

lint: $(VENV)/.test ## Check style and types
	@$(PY) tools/run_tests.py --only lint

docs: $(VENV)/.test ## Build the pages of docs/ into docs/_build/html; a warning is an error
	@$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

dashboards: $(VENV)/.test ## Write the JSON of the Grafana boards into dashboards/
	@$(PY) -m tools.dashboards

rules: $(VENV)/.test ## Write the alert rules of collector/ and their table in the documents, from tools/rules
	@$(PY) -m tools.rules
	@$(PY) tools/update_docs.py

bench: $(VENV)/.bench ## Compare with other logging libraries, side by side
	@$(VENV)/bin/otelog stack build otelog-collector > $(VENV)/.collector
	@OTELOG_COLLECTOR="$$(cat $(VENV)/.collector)" $(PY) -m benchmarks $(ARGS)

soak: $(VENV)/.test ## Run what takes longer, and add its dated row to the table
	@$(PY) -m benchmarks.soak $(ARGS)
	@$(PY) -m tests.ledger_load
	@$(PY) -m tests.forks
	@$(PY) -m tests.drills
	@OTELOG_TESTS_FULL=1 $(PY) tools/run_tests.py --only unit --only programs --only load --only servers --only matrix
	@OTELOG_TESTS_FULL=1 $(PY) -m pytest -q tests/stack/test_books.py tests/stack/test_collector.py
	@OTELOG_DRILLS=full $(PY) -m pytest -q tests/stack/test_drills_alerts.py
	@$(PY) -m tests.servers
	@$(PY) -m tests.dashboards
	@$(PY) -m tests.chaos --fresh 5000 --output benchmarks/results/chaos.md
	@$(PY) tools/first_hour.py
	@$(PY) tools/run_tests.py --only newest-sdk
	@OTELOG_INSTALLATIONS=all $(PY) -m pytest -q tests/installation

clean: ## Remove what was made here; the cache in the user's folder stays
	@rm -rf $(VENV) docs/_build .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python of 3.10 or newer that can make a virtual environment; PYTHON=... chooses another.
# A pip of today's: the one that comes with Python 3.10 or 3.11 takes twice as long.
$(VENV)/.made:
	@for candidate in $(PYTHON) python3.11 python3.12 python3.13 python3.10 python3 python3.14; do \
	  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
	    echo "venv: making $(VENV) with $$("$$candidate" --version)"; \
	    rm -rf $(VENV); "$$candidate" -m venv $(VENV); $(PIP) --upgrade pip; touch $@; exit 0; \
	  fi; \
	done; \
	echo "No Python 3.10 or newer with the venv module was found (on Debian: apt install python3-venv)." >&2; exit 1

$(VENV)/.demo: $(VENV)/.made $(PINS)
	@echo "venv: installing otelog with its commands"
	@$(PIP) --editable '.[dev]'
	@$(COMPILE)
	@touch $@

$(VENV)/.test: $(VENV)/.made $(PINS)
	@echo "venv: installing otelog with what the tests need"
	@$(PIP) --editable '.[all,test,servers,lint,docs]'
	@# In the environment itself it would be a second distribution for every test; see tests/cli/test_distro.py.
	@$(PIP) --no-deps --upgrade --target $(VENV)/distro opentelemetry-distro
	@$(COMPILE)
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: $(VENV)/.test $(PINS)
	@echo "venv: installing the peers of the benchmark"
	@$(PIP) --editable '.[all,test,servers,lint,docs,bench]'
	@echo "venv: installing picologging (compiles for minutes where there is no wheel)"
	@$(PIP) --editable '.[picologging]' || echo "venv: picologging does not install here, the benchmark goes without it"
	@$(COMPILE)
	@touch $@
