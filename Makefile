# Each target does the set-up it needs. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test check format bench fuzz chaos scale datasets lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(READY) ## make .venv from requirements.lock

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Keyslice needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --requirements requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	touch $@

demo: $(READY) ## phantoms from the inbox to a registered model, in minutes
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/keyslice demo

test: $(READY) ## the tests, under 10 minutes on 2 cores
	PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(READY) ## ruff, pyright, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## speed as ratios within one run; writes docs/benchmarks.md; PART=Ingestion for one part
	$(BIN)/python -m benchmarks $(if $(PART),"$(PART)")

fuzz: $(READY) ## 2,000 damaged files of all formats through an ingestion; KEYSLICE_FUZZ_SEED
	PATH="$(CURDIR)/$(BIN):$$PATH" KEYSLICE_FUZZ=2000 $(BIN)/pytest -q tests/exams/test_fuzz.py

chaos: $(READY) ## kills, tampering, planted names and the gate's simulation, at length
	PATH="$(CURDIR)/$(BIN):$$PATH" KEYSLICE_CHAOS=1 OMP_NUM_THREADS=1 $(BIN)/pytest -rP --show-capture=stdout tests/test_killed.py tests/test_privacy.py tests/test_warm_start.py tests/training/test_fit.py \
	  tests/servers tests/provenance tests/exams/test_barring.py tests/test_end_to_end.py tests/registry/test_approval.py tests/registry/test_verification.py tests/evaluation/test_gate_simulation.py tests/flows/test_dask.py tests/flows/test_environment.py tests/services

scale: $(READY) ## 100,000 small exams, then 1,000 more; writes docs/scale.md
	$(BIN)/python -c 'from benchmarks import scale; scale.main(100_000)'

lock: $(READY) ## resolve requirements.lock anew
	$(BIN)/uv pip compile --custom-compile-command "make lock" pyproject.toml --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --upgrade -o requirements.lock

datasets: $(READY) ## what DVC asks for each of 1, 10, 50, 100 datasets; writes docs/datasets.md
	$(BIN)/python -m benchmarks.datasets

clean: ## remove .venv and caches; data/ and state/ stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache
