# The two commands: `make demo` and `make test`. Everything is built in .venv; nothing outside this folder is changed
# but the cache of downloaded jars (see `python -m conf`, MART_CACHE).
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DATA ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check bench-latency bench-catch-up bench-generate clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  DATA=folder: your own CSV files for the demo; ARGS=\"…\": more options for a command; PYTHON=…: which Python"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: pyproject.toml | $(VENV)/bin/python
	@echo "Installing the project and what it needs into $(VENV) (once, a minute or two)"
	@$(PY) -m pip install --disable-pip-version-check --quiet --editable '.[stack]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "Installing the project, its tests and their tools into $(VENV) (once, a minute or two)"
	@$(PY) -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.user

demo: $(VENV)/.user ## A shop, Kafka, Spark, PostgreSQL: watch segments move, then the proof (DATA=folder: your CSV)
	@$(PY) -m demo $(if $(DATA),--data '$(DATA)') $(ARGS)

test: $(VENV)/.dev check ## All tests, from nothing
	@$(PY) -m pytest $(ARGS)

check: $(VENV)/.dev ## Formatting, lint and types
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy

bench-generate: $(VENV)/.dev ## Lines/s of the generator beside a plain loop
	@$(PY) -m bench.generate $(ARGS)

bench-latency: $(VENV)/.dev ## End-to-end latency at 1,000 invoices/s
	@$(PY) -m bench.latency $(ARGS)

bench-catch-up: $(VENV)/.dev ## Catch-up of 1,000,000 lines
	@$(PY) -m bench.catch_up $(ARGS)

bench-rules: $(VENV)/.dev ## Association rules beside Spark's way, mlxtend and pyfim
	@$(PY) -m bench.rules $(ARGS)

clean: ## Delete the environment and the demo's data (stops its servers)
	@if [ -x $(PY) ]; then MART_HOME=.mart/demo $(PY) -m stack reset --yes; fi
	rm -rf $(VENV) .mart
