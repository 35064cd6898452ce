# Every task of this repository. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := services local operator bench proto/generate.py charts web tests

# What `make rush` simulates, and what is passed on to pytest.
BUYERS ?= 20000
TICKETS ?= 1000
# How many processes of every service `make rush` runs; with ROLLING=1 each is restarted in the middle of it.
REPLICAS ?= 1
ROLLING ?=
# How long `make fuzz` tries, and from which seed; a new one each time if none is given.
MINUTES ?= 10
SEED ?=
PYTEST_ARGS ?=
# Processes that `make test` runs tests in, each with servers of its own; 0 is one after the other. On two cores 2
# is faster and no longer tells a slow test from a wrong one.
PARALLEL ?= 0
# What `make bench` measures; everything if none is named.
NAMES ?=
# What `make load` offers at last, for how long each step, from how many processes, and whether it samples.
RATE ?= 10000
STEP_S ?= 5
WORKERS ?= 1
PROFILE ?= 1

# A Python to build the environment with; found if not given.
PYTHON ?=
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))

##@ Start here

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\n'

.PHONY: setup
setup: $(READY) ## Build .venv from the locked requirements (the other targets do it themselves)

.PHONY: run
run: $(READY) ## Run the whole system with a demo sale and a live view; Ctrl-C stops everything
	@$(BIN)/catraca demo

.PHONY: rush
rush: $(READY) ## Sell out a sale to simulated buyers and audit it (BUYERS=20000 TICKETS=1000 REPLICAS=3 ROLLING=1)
	@$(BIN)/catraca rush --buyers $(BUYERS) --tickets $(TICKETS) \
	  --replicas queue=$(REPLICAS),inventory=$(REPLICAS),checkout=$(REPLICAS),notifier=$(REPLICAS) \
	  $(if $(ROLLING),--rolling-restart)

.PHONY: cluster
cluster: plane ## Run a Kubernetes control plane with the TicketSale CRD, to try things by hand
	@$(BIN)/python -m tests.cluster.plane

##@ Verify

.PHONY: check
check: $(READY) ## Lint, imports, contract drift, types, unit and contract tests; fastest first
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports --no-logo
	$(BIN)/python proto/generate.py --check
	$(BIN)/python charts/schema.py --check
	cd proto && ../$(BIN)/buf lint
	$(BIN)/mypy
	$(BIN)/pytest tests/unit tests/contract

.PHONY: plane
plane: $(READY) ## Build the control plane of the cluster tests into the user's cache (minutes, once)
	@$(BIN)/python -m tests.cluster.plane.build

# A control plane that cannot be built fails the cluster tests, and keeps no other test from running.
.PHONY: test
test: $(READY) ## Every test, on real servers (PARALLEL=0; PYTEST_ARGS="-k outbox -x" is passed on)
	-@$(BIN)/python -m tests.cluster.plane.build
	$(BIN)/pytest -n $(PARALLEL) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

.PHONY: images
images: $(READY) ## Build the image twice without a registry, compare, start all of it (as root, with buildah and mmdebstrap)
	CATRACA_TEST_IMAGES=1 $(BIN)/pytest tests/integration/delivery/test_image.py -s $(PYTEST_ARGS)

.PHONY: fuzz
fuzz: $(READY) ## Bad input made from the contract, on the whole system (MINUTES=10 SEED=…)
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

.PHONY: churn
churn: plane ## TicketSales that come and go on a control plane, and what each costs the operator (MINUTES=30)
	@$(BIN)/python -m tests.cluster.ticketsales.churn --minutes $(if $(filter file,$(origin MINUTES)),30,$(MINUTES))

.PHONY: coverage
coverage: $(READY) ## Every test with line and branch coverage, also of the services' own processes
	-@$(BIN)/python -m tests.cluster.plane.build
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report --skip-covered

.PHONY: load
load: $(READY) ## Offer more and more calls, find the knee, audit, report (RATE=10000 STEP_S=5 WORKERS=1 PROFILE=1)
	@$(BIN)/python -m tests.load --rate $(RATE) --step-s $(STEP_S) --workers $(WORKERS) --profile $(PROFILE)

.PHONY: bench
bench: $(READY) ## Measure parts side by side, in ratios of one run (NAMES="seats")
	@$(BIN)/python -m bench $(NAMES)

##@ Maintain

.PHONY: gen
gen: $(READY) ## Generate proto/gen from the contract, and the schema of the chart's values
	$(BIN)/python proto/generate.py
	$(BIN)/python charts/schema.py

.PHONY: format
format: $(READY) ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# What an image is made from is what was tested here: its versions are those of dev.txt.
.PHONY: lock
lock: $(READY) ## Recompile requirements/*.txt from pyproject.toml
	@uv=uv; \
	if ! uv --version >/dev/null 2>&1; then \
	  scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	  $(BIN)/python -m venv "$$scratch" && "$$scratch/bin/pip" install --quiet uv; \
	  uv="$$scratch/bin/uv"; \
	fi; \
	for group in dev go build runtime; do \
	  case $$group in \
	    dev) what="pyproject.toml --group dev";; \
	    runtime) what="pyproject.toml --extra cluster --constraints requirements/dev.txt";; \
	    build) what="--group pyproject.toml:build --constraints requirements/dev.txt";; \
	    *) what="--group pyproject.toml:$$group";; \
	  esac; \
	  "$$uv" pip compile $$what --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet -o requirements/$$group.txt; \
	done

.PHONY: clean
clean: ## Remove caches, reports and the local data; .venv stays
	rm -rf web/node_modules web/gen
	rm -rf reports .catraca .coverage .coverage.* htmlcov dist build
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

# Runs again only when the locked requirements or the package's own description change.
$(READY): requirements/dev.txt pyproject.toml
	@python=; \
	for candidate in $(PYTHON) python3.12 python3.11 python3 python; do \
	  if "$$candidate" -c '$(FITS)' >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Catraca needs Python 3.11 or 3.12, and none was found on PATH." >&2; \
	  echo "Install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; \
	  exit 1; \
	fi; \
	if ! $(BIN)/python -c '$(FITS)' >/dev/null 2>&1; then \
	  echo "Creating $(VENV) with $$("$$python" --version)"; \
	  if ! "$$python" -m venv --clear $(VENV); then \
	    echo "$$python cannot make virtual environments: install its venv module" >&2; \
	    exit 1; \
	  fi; \
	fi
	@echo "Installing the locked requirements (about a minute the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@
