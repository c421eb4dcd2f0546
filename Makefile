# Everything from a fresh clone: needs Python 3.11 or newer with pip, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ON_PATH := PATH="$(abspath $(BIN)):$$PATH"

.PHONY: quickstart test acceptance lint bench clean

quickstart: $(VENV)/installed  ## train resnet34 + wavelet on the bundled photographs, without any download
	$(ON_PATH) mlflow run . --env-manager local --experiment-name inversion \
	  -P encoder=resnet34 -P decoder=wavelet -P data=sample -P weights=random -P lpips_weights=off \
	  -P epochs=15 -P lr=1e-3

test: $(VENV)/installed-dev  ## the tests: under 12 minutes on 2 cores
	$(ON_PATH) pytest

acceptance: $(VENV)/installed-dev  ## what takes longer: real servers, browsers, environments, kill tests
	$(ON_PATH) pytest -m acceptance

lint: $(VENV)/installed-dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/installed-dev  ## this project beside a plain reference: an hour, on a machine that does nothing else
	$(BIN)/python -m benchmarks.bench

clean:  ## remove the virtual environment and caches; keeps mlflow.db and mlruns
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $@
