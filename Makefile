# Everything from a fresh clone: needs Python 3.11 or newer with pip, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ON_PATH := PATH="$(abspath $(BIN)):$$PATH"

.PHONY: quickstart test avx2 acceptance acceptance-together acceptance-alone lint wheel lowest bench clean

NUMERIC := tests/models tests/losses tests/reconstruct tests/training tests/report/stats tests/test_images.py \
  tests/test_metrics.py tests/test_multiscale.py
SHORT := tests/cli tests/config tests/losses tests/models/test_*.py tests/reconstruct tests/report tests/sweeps/queue \
  tests/sweeps/spec tests/sweeps/study tests/training/test_pixel_optimization.py tests/test_*.py

# A thread of OpenMP that waits for its next piece of work spins. Where more threads than cores run, as here, that
# costs three times the CPU time.
test avx2 acceptance-together acceptance-alone lowest: export OMP_WAIT_POLICY := PASSIVE

# What is imported is compiled once and not by every process: a second each, and eight for the tests. pip would compile
# everything that it installs: a minute or two.
unexport PYTHONDONTWRITEBYTECODE

quickstart: $(VENV)/installed  ## train resnet34 + wavelet on the bundled photographs, without any download
	$(ON_PATH) mlflow run . --env-manager local --experiment-name inversion \
	  -P encoder=resnet34 -P decoder=wavelet -P data=sample -P weights=random -P lpips_weights=off \
	  -P epochs=15 -P lr=1e-3

test: $(VENV)/installed-dev  ## the tests: under 12 minutes on 2 cores
	$(ON_PATH) pytest -n 2 --dist loadfile

avx2: $(VENV)/installed-dev  ## the tests of numbers once more, as on a CPU without AVX-512
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(ON_PATH) pytest -n 2 --dist loadfile $(NUMERIC)

acceptance: acceptance-together acceptance-alone  ## what takes longer: real servers, browsers, environments, kill tests

acceptance-together: $(VENV)/installed-dev  ## those of them that can share the machine
	$(ON_PATH) pytest -m 'acceptance and not alone' -n 2 --dist loadfile --no-loadscope-reorder

acceptance-alone: $(VENV)/installed-dev  ## those that cannot, but for LEFT_OUT
	$(ON_PATH) pytest -m 'acceptance and alone' $(addprefix --ignore=,$(LEFT_OUT))

lint: $(VENV)/installed-dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint docs/docker/Dockerfile

wheel: $(VENV)/installed-dev  ## the wheel, installed and used in an empty environment outside this folder
	PYTHON=$(PYTHON) .ci/wheel

lowest: $(VENV)/installed-dev  ## a short set of tests with the lowest versions that pyproject.toml admits
	$(BIN)/uv venv --clear --python $(PYTHON) .venv-lowest
	$(BIN)/uv pip install --python .venv-lowest/bin/python --resolution lowest-direct \
	  --editable '.[cmaes,postgresql]' 'pytest>=8'
	PATH="$(abspath .venv-lowest/bin):$$PATH" pytest -p no:cacheprovider $(SHORT)

bench: $(VENV)/installed-dev  ## this project beside a plain reference: an hour, on a machine that does nothing else
	$(BIN)/python -m benchmarks.bench

clean:  ## remove the virtual environment and caches; keeps mlflow.db and mlruns
	rm -rf $(VENV) .venv-lowest build .mypy_cache .pytest_cache .ruff_cache

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-compile --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --no-compile --editable '.[dev]'
	touch $@
