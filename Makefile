# Luhuo 炉火. `make quickstart` is the whole road; `make test` is what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := 2.13.0
# Where to find PyTorch's CPU build when pip's own index has only the CUDA one (Linux).
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
STAMP := $(VENV)/.luhuo-ready

.PHONY: help setup quickstart test test-slow lint format clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## build .venv with everything the tests need

# On Linux without an NVIDIA GPU the version "+cpu" is asked for by name, so that no CUDA build can come in its place.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1; then \
	  $(BIN)/python -m pip install -q "torch==$(TORCH)+cpu" 2>/dev/null \
	  || $(BIN)/python -m pip install -q "torch==$(TORCH)+cpu" --index-url $(TORCH_CPU_INDEX); \
	else $(BIN)/python -m pip install -q "torch==$(TORCH)"; fi
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[test,lint]'
	touch $@

quickstart: setup ## raw text to a chatting, measured assistant (about 13 minutes on 2 CPU cores)
	$(BIN)/luhuo run recipes/quickstart.yaml --out runs/quickstart

# Two processes a core: some tests wait for a server, a browser or a limit of time. What is compiled once is kept.
test: setup ## the test suite, in parallel
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest \
	  -n $$($(BIN)/python -c 'import os; print(min(8, 2 * os.cpu_count()))') --dist worksteal

test-slow: setup ## faults, soak and effect runs
	$(BIN)/python -m pytest -m slow

lint: setup ## ruff, pyright, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and the runs
	rm -rf $(VENV) runs
