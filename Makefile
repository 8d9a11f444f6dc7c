# The two commands: `make demo` and `make test`. Everything is built in .venv (and .venv-airflow); nothing outside this
# folder is changed but the cache of downloaded jars (see `retail-mart settings`, MART_CACHE).
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
AIRFLOW_VENV := .venv-airflow
PEERS_VENV := .venv-peers
PIP_INSTALL := -m pip install --disable-pip-version-check --quiet
DATA ?=
FILE ?=
ARGS ?=
# What `nightly`, `dashboards`, `metabase` and `airflow` work on: the demo's data, unless the environment names another home.
export MART_HOME ?= $(if $(filter nightly dashboards metabase airflow,$(MAKECMDGOALS)),.mart/demo,)

.DEFAULT_GOAL := help
.PHONY: help backup restore prometheus-rules demo nightly dashboards metabase airflow airflow-env env up down logs test \
  test-containers check clean bench bench-generate bench-latency bench-cluster soak torture torture-mutants

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  DATA=folder: your own CSV files for the demo; ARGS=\"…\": more options for a command; PYTHON=…: which Python"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: pyproject.toml | $(VENV)/bin/python
	@echo "Installing the project and what it needs into $(VENV) (once, a minute or two)"
	@$(PY) $(PIP_INSTALL) --editable '.[stack,dashboards]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "Installing the project, its tests and their tools into $(VENV) (once, a minute or two)"
	@$(PY) $(PIP_INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.user

$(AIRFLOW_VENV)/.installed: pyproject.toml
	@echo "Installing Airflow into $(AIRFLOW_VENV) (once, a few minutes, 0.7 GB)"
	@$(PYTHON) -m venv $(AIRFLOW_VENV)
	@$(AIRFLOW_VENV)/bin/python $(PIP_INSTALL) --upgrade 'pip>=25.1'
	@$(AIRFLOW_VENV)/bin/python $(PIP_INSTALL) --group airflow
	@touch $@

$(PEERS_VENV)/.installed: pyproject.toml
	@echo "Installing the streaming peers of the benchmark into $(PEERS_VENV) (once, a minute or two, 1.7 GB)"
	@$(PYTHON) -m venv $(PEERS_VENV)
	@$(PEERS_VENV)/bin/python $(PIP_INSTALL) --upgrade 'pip>=25.1'
	@$(PEERS_VENV)/bin/python $(PIP_INSTALL) --group peers
	@touch $@

demo: $(VENV)/.user ## A shop, Kafka, Spark, PostgreSQL, the live page: watch segments move, then the proof and tonight's rules
	@$(PY) -m cli demo $(if $(DATA),--data '$(DATA)') $(ARGS)

nightly: $(VENV)/.user ## The nightly job alone, on what the demo landed: compact the lake, mine, publish, check
	@$(PY) -m cli with-servers sh -ec '$(PY) -m cli compact; $(PY) -m cli mine --business-date newest "$$@"; $(PY) -m cli check' nightly $(ARGS)

dashboards: $(VENV)/.user ## The live page on the demo's data, until Ctrl-C
	@$(PY) -m cli with-servers $(PY) -m cli page $(ARGS)

metabase: $(VENV)/.user ## Keep a running Metabase's questions and dashboard as the cards say (METABASE_URL)
	@$(PY) -m cli metabase apply $(ARGS)

prometheus-rules: $(VENV)/.user ## Write deploy/prometheus/alerts.yml from the table of alerts, with the default limits
	@env -i PATH="$$PATH" $(PY) -m cli watch --prometheus-rules > deploy/prometheus/alerts.yml.new
	@mv deploy/prometheus/alerts.yml.new deploy/prometheus/alerts.yml

backup: $(VENV)/.user ## Write the mart into a file, with a note of positions and lake version
	@$(PY) -m cli backup $(ARGS)

restore: $(VENV)/.user ## Restore FILE=… into an empty mart
	@$(PY) -m cli restore '$(FILE)'

airflow-env: $(AIRFLOW_VENV)/.installed ## Airflow's own environment

airflow: $(VENV)/.user $(AIRFLOW_VENV)/.installed ## Airflow for real, with the nightly DAG; prints its URL, until Ctrl-C
	@$(PY) -m cli with-servers $(PY) -m cli airflow $(ARGS)

env: $(VENV)/.user ## Write .env: random passwords for docker-compose.yml (kept if it is there)
	@$(PY) -m cli env

up: ## Start the mart in containers and wait until it is healthy; PROFILE=demo: with live traffic
	docker compose $(if $(PROFILE),--profile $(PROFILE)) up --build --wait

down: ## Stop the containers; their data is kept
	docker compose --profile '*' down

logs: ## Follow the containers' logs
	docker compose --profile '*' logs --follow --tail 50

test: $(VENV)/.dev $(AIRFLOW_VENV)/.installed check ## All tests, by three workers (ARGS="-n 0": one by one)
	@$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

test-containers: $(VENV)/.dev ## The integration tests on Kafka and PostgreSQL in containers (needs Docker)
	@$(PY) -m pytest --stack=containers tests/integration $(ARGS)

check: $(VENV)/.dev ## Formatting, lint and types
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy

bench: $(VENV)/.dev $(PEERS_VENV)/.installed ## Us and our peers in one run → docs/benchmarks.md (half an hour); DATA=folder of UCI by day
	@$(PY) -m bench $(if $(DATA),--data '$(DATA)') $(ARGS)

bench-generate: $(VENV)/.dev ## Lines/s of the generator beside a plain loop
	@$(PY) -m bench.generate $(ARGS)

bench-latency: $(VENV)/.dev ## End-to-end latency at 1,000 invoices/s
	@$(PY) -m bench.latency $(ARGS)

bench-cluster: $(VENV)/.dev ## Parse throughput of a Spark cluster with 1 and 2 executors
	@$(PY) -m bench.cluster $(ARGS)

soak: $(VENV)/.dev ## Half an hour at 1,000 invoices/s: what grows, and the latency's end beside its beginning
	@$(PY) -m bench.soak $(ARGS)

torture: $(VENV)/.user ## Kill, cut off and fill up the pipeline, and compare it with an oracle (about half an hour)
	@$(PY) -m torture run $(ARGS)

torture-mutants: $(VENV)/.user ## Remove the guards one at a time: each must turn a scenario red
	@$(PY) -m torture mutants $(ARGS)

clean: ## Delete the environments and the demo's data (stops its servers)
	@if [ -x $(PY) ]; then MART_HOME=.mart/demo $(PY) -m cli reset --yes; fi
	rm -rf $(VENV) $(AIRFLOW_VENV) $(PEERS_VENV) .mart
