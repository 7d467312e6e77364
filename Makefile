# `make demo` and `make test` set everything up by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A process a core, each of which takes a gigabyte or two; files stay whole, for what their tests share.
# A process that dies ends the run: a new one in its place never gets the tests that were its, and the run never ends.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --max-worker-restart 0

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint format serve clean

help: ## Show what there is.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(READY) ## Create .venv with everything, in versions that were tested together.

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "roadseg needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
	  { echo "could not create $(VENV); on Debian and Ubuntu install the package python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all]'
	@touch $(READY)

# The raw value, handed over in the environment: a file name may hold spaces, quotes and dollar signs.
demo: override export IMAGE := $(value IMAGE)
demo: $(READY) ## Serve the bundled model and segment a scene, then train one briefly; IMAGE=photo.jpg segments that too.
	$(BIN)/python examples/demo.py $${IMAGE:+"--image=$$IMAGE"}

test: $(READY) ## Run the tests but the slow ones.
	$(BIN)/python -m pytest -m 'not slow' $(PARALLEL)

test-all: $(READY) ## Run every test.
	$(BIN)/python -m pytest $(PARALLEL)

lint: $(READY) ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## Put files into the project's format.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

serve: $(READY) ## Serve the bundled model, or a model file: make serve MODEL=model.safetensors PORT=8000
	$(BIN)/roadseg serve $(if $(MODEL),--model '$(MODEL)') --port $(or $(PORT),8000)

clean: ## Remove what setup, tests and demo made.
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache outputs
