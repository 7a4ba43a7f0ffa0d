# The front door. `make` alone lists the targets.
#
# Needs a Debian-like machine with Python 3.11 or newer and make. Another interpreter:
#   make demo PYTHON=/path/to/python3.12
# Both stamps live inside .venv, so repeating a target costs nothing and `make clean` forgets everything.

PYTHON  ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
             if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
VENV    ?= .venv
BIN     := $(VENV)/bin
CHECKED := $(wildcard zmflow tests examples benchmarks plugins)
TYPED   := $(wildcard zmflow examples benchmarks tests/typing/*.py plugins/*/zmflow_*)
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))

# Isolated builds read their constraints from the environment; pip before 25.3 knows the first name only.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs bench clean

help:  ## List the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found. Name one: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.made pyproject.toml constraints.txt $(PLUGINS:%=%/pyproject.toml)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]' $(PLUGINS:%=-e '%[test]')
	@touch $@ $(VENV)/.installed

# A PostgreSQL server for the tests of its connector. Root installs it, without the server that Debian would
# start; anybody else is told, and those tests are skipped.
$(VENV)/.installed-servers: $(VENV)/.made
	@if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null; then :; \
	elif [ "$$(id -u)" != 0 ]; then \
	  echo "Without the Debian package postgresql the tests of the PostgreSQL connector are skipped."; \
	else \
	  export DEBIAN_FRONTEND=noninteractive; \
	  apt-get -qq update; \
	  apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends postgresql-common >/dev/null && \
	  sed -i 's/^#*create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf && \
	  apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends postgresql >/dev/null; \
	fi
	@touch $@

demo: $(VENV)/.installed  ## Count the words of the standard library's sources on the embedded cluster.
	$(BIN)/zmflow run -p 2 examples/word_count.py

lint: $(VENV)/.installed-dev  ## Style, format, types and the import contract.
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports

test: lint $(VENV)/.installed-servers  ## Everything CI runs: lint, then all tests, the ones with real processes included.
	$(BIN)/pytest -q -n 2 --dist loadgroup

format: $(VENV)/.installed-dev  ## Let ruff format and fix what it can.
	$(BIN)/ruff format $(CHECKED)
	$(BIN)/ruff check --fix $(CHECKED)

docs: $(VENV)/.installed-dev  ## Write the generated pages again: CLI.md, SETTINGS.md, the maps in ARCHITECTURE.md.
	$(BIN)/python -m zmflow.cli.reference .

bench: $(VENV)/.installed-dev  ## Measure everything in benchmarks/ and print the tables.
	$(BIN)/python -m benchmarks run --all --json out.json
	$(BIN)/python -m benchmarks report out.json

clean:  ## Remove the virtual environment, caches and build products.
	rm -rf $(VENV) build dist out.json .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
