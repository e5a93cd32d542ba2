# Two commands for a fresh machine: `make demo` and `make test`. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The CPU build of torch, where its index answers: the default wheel for Linux brings gigabytes of CUDA.
TORCH_CPU := https://download.pytorch.org/whl/cpu

.PHONY: demo test lint unit docs plotly

demo: $(READY)
	$(BIN)/hil deploy --emulated

test: lint unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(READY)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -rs

docs: $(READY)
	$(BIN)/python -m sphinx -W -q -b html docs site

# The small plotly.js for pages and wheels, by npm: pages of 3 MB less.
plotly:
	$(PYTHON) .ci/plotly_bundle.py

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || \
	    $(BIN)/python -m pip install --quiet --retries 0 --timeout 20 'torch>=2.6' --index-url $(TORCH_CPU) 2>/dev/null || true
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)
