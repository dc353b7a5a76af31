# Outpost. `make run`, `make run-cloud` and `make test` set up all they need; `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
SPEED ?= 60
ONCE ?=
TRACKS ?=
CLOUD ?=
CODE ?=
ADVISORIES ?=
# the Debian and the architecture of a package; empty: this machine's
SUITE ?=
ARCH ?=
PORT ?= 0
ANIMALS ?= 12
DATA ?= ../shared/data
# files of tests that run side by side
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help run run-cloud evaluate train test quick fmt lint types layers unit property integration e2e faults golden bench simulate \
  wheel-check screenshots sbom audit web deb deb-check images coverage fast test-nightly soak lock clean station-env cloud-env dev-env services \
  cloud-services test-services

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- what a machine needs -----------------------------------------------------------------------------------------
$(VENV)/bin/python:
	@bash .ci/python "$(PYTHON)" "$(VENV)"

$(VENV)/.station: station.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing the station's locked packages"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r station.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.cloud: cloud.lock $(VENV)/.station
	@echo "installing the cloud's locked packages"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r cloud.lock
	@touch $@

$(VENV)/.dev: dev.lock $(VENV)/.station
	@echo "installing the locked packages of tests and tools"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  torch==2.13.0 stable-baselines3==2.9.2 sb3-contrib==2.9.2
	@touch $@

services:
	@bash .ci/services station

cloud-services:
	@bash .ci/services cloud

# The API documentation's own scripts; without a registry the station runs and says that they are missing.
shared/api/assets/.done: .ci/assets shared/api/package.json shared/api/package-lock.json $(VENV)/.station
	@bash .ci/assets "$(BIN)"

# The phones' own client, for its tests; without a registry these skip.
shared/web/client/node_modules/.done: shared/web/client/package.json shared/web/client/package-lock.json $(VENV)/.station
	@bash .ci/client "$(BIN)"

# The pages that people look at; the same.
WEB := $(shell find shared/web -type f -not -path '*/node_modules/*' -not -path '*/dist/*' -not -name axe.min.js)
shared/web/dist/.done: .ci/web $(WEB) $(VENV)/.station
	@bash .ci/web "$(BIN)"

station-env: $(VENV)/.station services shared/api/assets/.done shared/web/dist/.done
cloud-env: station-env $(VENV)/.cloud cloud-services
test-services:
	@bash .ci/apt systemd openssl faketime chromium network-manager nftables nginx-light certbot

dev-env: station-env cloud-env test-services shared/web/client/node_modules/.done $(VENV)/.dev

# --- the commands of the README ---------------------------------------------------------------------------------------
run: station-env ## a station with a simulated herd; TRACKS=file.csv SPEED=n ONCE=1 replays a file; CLOUD=url CODE=code enrols it
	@$(BIN)/python -m edge.demo --port $(PORT) --speed $(SPEED) --animals $(ANIMALS) \
	  $(if $(TRACKS),--tracks "$(TRACKS)") $(if $(ONCE),--once) \
	  $(if $(CLOUD),--cloud "$(CLOUD)") $(if $(CODE),--code "$(CODE)")

run-cloud: cloud-env ## the cloud on a PostgreSQL of its own, which runs only as long
	@$(BIN)/python -m cloud.demo --port $(PORT)

test: dev-env ## everything that proves the promises, with real services that the tests start themselves
	@$(MAKE) --no-print-directory lint types layers
	@bash .ci/audit "$(BIN)" || echo "the tests go on: a hole that became known today stops make audit, not them"
	$(PYTEST) -m "not nightly" -n $(JOBS) --dist loadfile

# --- for those who change it ----------------------------------------------------------------------------------------
quick: dev-env lint types layers ## lint, types, layers, unit and property tests: under a minute
	$(PYTEST) -q tests/unit tests/property -m "not slow and not nightly"

fmt: dev-env ## format
	$(BIN)/ruff format . && $(BIN)/ruff check --fix-only .

lint: $(VENV)/.dev ## ruff
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy && $(BIN)/mypy --explicit-package-bases tests

layers: $(VENV)/.dev ## who may import whom
	$(BIN)/lint-imports --no-cache

unit property integration e2e faults golden web: dev-env ## one folder of tests
	$(PYTEST) tests/$@ -m "not nightly"

test-%: dev-env
	$(PYTEST) -m "$* and not nightly"

fast: dev-env ## the tests but the slow ones
	$(PYTEST) -m "not slow and not nightly"

test-nightly: dev-env ## kills, cuts, seeds and fuzz in full counts
	OUTPOST_NIGHTLY=1 $(PYTEST) tests/faults tests/property tests/integration/test_import.py tests/integration/test_cloud_store.py \
	  tests/integration/test_exchange.py tests/integration/test_stick.py tests/integration/test_scope.py \
	  tests/integration/test_spread.py tests/unit/edge/sync tests/e2e/test_two_homes.py tests/e2e/test_partition.py \
	  tests/e2e/test_deb.py tests/contract/test_schemathesis.py tests/contract/test_viewer.py

soak: dev-env ## thirty minutes of ingest and readers; memory, WAL and latency must stay flat
	$(BIN)/python -m tests.benchmarks.soak

bench: dev-env ## the tables of tests/benchmarks/README.md
	$(BIN)/python -m tests.benchmarks
	$(BIN)/python -m tests.benchmarks.homes
	$(BIN)/python -m tests.benchmarks.offline
	$(BIN)/python -m tests.benchmarks.api
	$(BIN)/python -m tests.benchmarks.phones
	$(BIN)/python -m tests.benchmarks.web
	$(BIN)/python -m tests.benchmarks.exchange
	$(BIN)/python -m tests.benchmarks.quality
	$(BIN)/python -m tests.benchmarks.bbmm
	$(BIN)/python -m tests.benchmarks.pipeline
	$(BIN)/python -m tests.benchmarks.alarms
	$(BIN)/python -m tests.benchmarks.habitat
	$(BIN)/python -m tests.benchmarks.corridor
	$(BIN)/python -m tests.benchmarks.science
	$(BIN)/python -m tests.benchmarks.models
	$(BIN)/python -m tests.benchmarks.web

coverage: dev-env ## htmlcov/index.html; fails under 80 % with branches
	$(PYTEST) -m "not nightly" --cov --cov-report=html --cov-report=term

screenshots: dev-env ## every page of both homes at 360 px and 1080p into var/screenshots
	$(BIN)/python -m tests.web.screenshots

evaluate: dev-env ## measure the models on real tracks; DATA=folder, by default ../shared/data
	$(BIN)/outpost-models evaluate --data $(DATA)

train: dev-env ## train the models on real tracks and write the next version of their artefacts; DATA=folder
	$(BIN)/outpost-models train --data $(DATA)

simulate: station-env ## a herd on pseudo-terminals, to point a station of your own at
	$(BIN)/outpost-sim herd --animals $(ANIMALS) --speed $(SPEED)

wheel-check: dev-env ## the wheel alone, in a fresh environment, owns its five packages and starts
	@bash .ci/wheel-check "$(BIN)"

deb: $(VENV)/.station shared/api/assets/.done shared/web/dist/.done ## dist/outpost-station_*.deb for this machine; SUITE=trixie or jetson, ARCH=arm64 for others
	@bash .ci/deb "$(BIN)" "$(SUITE)" "$(ARCH)"

deb-check: deb ## the package on a clean Debian: installed, run, upgraded, under systemd, purged; needs root
	@bash .ci/deb-check

images: shared/api/assets/.done shared/web/dist/.done ## the cloud's three images, by docker, podman or buildah; BASE=debootstrap where no registry is
	@bash .ci/images

sbom: $(VENV)/.dev ## dist/sbom-station.json and dist/sbom-cloud.json, CycloneDX, out of the locks
	@mkdir -p dist
	@$(BIN)/python .ci/sbom station.lock >dist/sbom-station.json && $(BIN)/python .ci/sbom cloud.lock >dist/sbom-cloud.json

audit: $(VENV)/.dev ## known holes in the locked packages; fails where nobody can be asked; ADVISORIES=all.zip brings osv.dev's
	@ADVISORIES="$(ADVISORIES)" bash .ci/audit "$(BIN)"

lock: $(VENV)/.dev ## compile station.lock, cloud.lock and dev.lock from pyproject.toml
	env -u PIP_FIND_LINKS $(BIN)/pip-compile -q --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url \
	  --no-emit-find-links --no-header --extra station --extra build -o station.lock pyproject.toml
	env -u PIP_FIND_LINKS $(BIN)/pip-compile -q --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url \
	  --no-emit-find-links --no-header --extra cloud --extra build -c station.lock -o cloud.lock pyproject.toml
	env -u PIP_FIND_LINKS $(BIN)/pip-compile -q --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url \
	  --no-emit-find-links --no-header --extra station --extra cloud --extra train --extra build --extra dev \
	  -c station.lock -c cloud.lock -o dev.lock pyproject.toml

clean: ## remove what make made, but no station's data
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis htmlcov .coverage* shared/api/assets shared/web/dist shared/web/axe.min.js
