# Patchbay. `make help` lists what there is. Everything lands in .venv, web/node_modules and the data folder.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .make
WITH_NODE := tools/with-node
WEB_SOURCES := $(shell find web -type f -not -path '*/node_modules/*' 2>/dev/null)
PIP_COMPILE := $(BIN)/pip-compile -q --generate-hashes --no-header --no-annotate --strip-extras --allow-unsafe \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: run
run: $(STAMPS)/run $(STAMPS)/web ## Install, build, and serve the demo on http://127.0.0.1:8080
	@exec $(BIN)/patchbay serve --demo

.PHONY: test
test: $(STAMPS)/packages $(STAMPS)/test $(STAMPS)/web ## Every test: Python, web, real browsers, clusters (up to 45 minutes)
	$(WITH_NODE) npm --prefix web run check
	$(WITH_NODE) npm --prefix web run size
	$(WITH_NODE) npm --prefix web test
	tools/test-lanes

.PHONY: check
check: $(STAMPS)/test $(STAMPS)/modules ## Lint, types and unit tests, in under a minute
	$(MAKE) --no-print-directory lint types
	$(BIN)/python -m pytest tests/unit tests/stories tests/test_imports.py
	$(WITH_NODE) npm --prefix web test

.PHONY: lint
lint: $(STAMPS)/test ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(STAMPS)/test ## mypy --strict
	$(BIN)/mypy

.PHONY: wire-types
wire-types: $(STAMPS)/run $(STAMPS)/modules ## Write the TypeScript of the wire messages from the Python ones
	PATH="$(CURDIR)/$(BIN):$$PATH" $(WITH_NODE) npm --prefix web run types

.PHONY: states
states: $(STAMPS)/run ## Draw docs/states.md from the state machines' tables
	$(BIN)/python -c 'from server.domain.diagram import states_page; print(states_page(), end="")' > docs/states.md

.PHONY: migrate
migrate: $(STAMPS)/run ## Bring the database to this version's schema
	$(BIN)/patchbay migrate

.PHONY: bench-setup
bench-setup: $(STAMPS)/packages $(STAMPS)/test $(STAMPS)/web ## How soon click-to-call and a reload are two-way audio -> bench/out/setup.json
	$(BIN)/python -m tests.bench.setup

.PHONY: bench-nodes
bench-nodes: $(STAMPS)/packages $(STAMPS)/test $(STAMPS)/web ## A thousand agents on a node, a storm of reconnections, steps a second -> bench/out/nodes.json
	$(BIN)/python -m tests.bench.nodes

.PHONY: bench-router
bench-router: $(STAMPS)/packages $(STAMPS)/test ## What routing costs at 1,000, 10,000 and 50,000 agents -> bench/out/router.json
	$(BIN)/python -m tests.bench.router

.PHONY: bench-mixer
bench-mixer: $(STAMPS)/test ## What a conference, a coached and a transcoded call cost the mixer -> bench/out/mixer.json
	$(BIN)/python -m tests.bench.mixer

.PHONY: bench-media
bench-media: $(STAMPS)/test ## What a recorded call costs the relay -> bench/out/media.json
	@tools/bench-packages
	$(BIN)/python -m tests.bench.media

.PHONY: bench-moves
bench-moves: $(STAMPS)/packages $(STAMPS)/test ## How soon calls are two-way again when their media worker is killed or drained -> bench/out/moves.json
	$(BIN)/python -m tests.bench.moves

.PHONY: soak-media
soak-media: $(STAMPS)/test ## 720 calls opened and closed leave a media worker as it was -> bench/out/soak_media.json
	$(BIN)/python -m tests.bench.soak_media

.PHONY: chaos
chaos: $(STAMPS)/packages $(STAMPS)/test ## Kill nodes, Redis and PostgreSQL under 50 calls and 200 waiting; restart everything under 20 -> bench/out/chaos.json
	$(BIN)/python -m tests.chaos

.PHONY: chaos-router
chaos-router: $(STAMPS)/packages $(STAMPS)/test ## Kill nodes and restart Redis for 5 minutes while 120 agents route -> bench/out/chaos_router.json
	$(BIN)/python -m tests.chaos.routing

SEEDS ?= 10000

.PHONY: simulate-soak
simulate-soak: $(STAMPS)/test ## SEEDS=10000 universes of 100 sessions in virtual time, and the planted bugs -> bench/out/simulate.json
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

.PHONY: fuzz
fuzz: $(STAMPS)/test ## A million inputs each to the parsers of RTP, RTCP, STUN and SDP; random messages and histories for longer than the tests do
	$(BIN)/python -m tests.fuzz
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest tests/unit tests/contract tests/wire -m hypothesis --timeout 1800

.PHONY: strangers
strangers: $(STAMPS)/test ## A million packets of strangers reach nobody, 100 calls connect under a spray of handshakes -> bench/out/strangers.json
	$(BIN)/python -m tests.strangers

.PHONY: screenshots
screenshots: $(STAMPS)/packages $(STAMPS)/test $(STAMPS)/web ## Pictures of every screen in both themes -> docs/screenshots
	$(BIN)/python -m tests.browser.screenshots

.PHONY: lock
lock: $(STAMPS)/run ## Choose versions anew: requirements/*.txt, with hashes and no download host
	$(BIN)/pip install -q pip-tools
	PIP_CONFIG_FILE=/dev/null $(PIP_COMPILE) -o requirements/run.txt pyproject.toml requirements/build.in
	PIP_CONFIG_FILE=/dev/null $(PIP_COMPILE) --extra test -c requirements/run.txt -o requirements/test.txt pyproject.toml requirements/build.in
	PIP_CONFIG_FILE=/dev/null $(PIP_COMPILE) -o requirements/node.txt requirements/node.in

.PHONY: clean
clean: ## Remove what was installed and built; the data folder stays
	rm -rf $(VENV) $(STAMPS) web/node_modules server/static build dist *.egg-info

# --- what the targets stand on ---

$(STAMPS):
	@mkdir -p $@

$(BIN)/python: | $(STAMPS)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v[:2] <= (3, 13))' || \
		{ echo "Patchbay needs Python 3.11 to 3.13; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv module is missing. Debian: apt-get install python3-venv" >&2; exit 1; }

.PHONY: $(STAMPS)/packages
$(STAMPS)/packages:
	@tools/test-packages

$(STAMPS)/run: requirements/run.txt pyproject.toml setup.py server/media/relay/ways.c $(BIN)/python | $(STAMPS)
	$(BIN)/pip install -q --require-hashes -r requirements/run.txt
	$(BIN)/pip install -q --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/test: $(STAMPS)/run requirements/test.txt
	$(BIN)/pip install -q --require-hashes -r requirements/test.txt
	@touch $@

$(STAMPS)/modules: web/package.json web/package-lock.json $(STAMPS)/run
	$(WITH_NODE) npm --prefix web ci --no-audit --no-fund --loglevel=error
	@touch $@

$(STAMPS)/web: $(STAMPS)/modules $(WEB_SOURCES)
	$(WITH_NODE) npm --prefix web run build
	@touch $@
