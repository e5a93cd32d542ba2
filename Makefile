# Two commands for a fresh machine: `make demo` and `make test`. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The CPU build of torch, where its index answers: the default wheel for Linux brings gigabytes of CUDA.
TORCH_CPU := https://download.pytorch.org/whl/cpu
# Versions that were tested together; `make test LOCK=` takes what pyproject.toml allows instead.
LOCK := .ci/constraints.txt

# `make test` leaves out the slowest tests (tests/slow.txt), `make test FULL=1` leaves out nothing.
FULL ?=

# `make test COVERAGE=1` runs the tests under coverage: about 1.4 times the processor time before Python 3.12.
COVERAGE ?=

.PHONY: demo test lint unit docs lock changelog

demo: $(READY)
	$(BIN)/hil deploy --emulated

test: lint unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(READY)
	rm -f .tests.xml .coverage .coverage.*
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python $(if $(COVERAGE),-m coverage run) -m pytest -n 2 --dist loadfile -rs \
	    $(if $(FULL),,-m "not slow") --junitxml .tests.xml
	$(BIN)/python docs/rooms_of_tests.py $(if $(FULL),$(if $(COVERAGE),,--ceiling))

docs: $(READY)
	$(BIN)/python -m sphinx -W -q -b html docs site

# Joins the fragments into changelog/VERSION.md and removes them.
changelog: $(READY)
	$(BIN)/python -m towncrier build --yes --version $(VERSION)

# Writes down the versions of .venv: in a new one by `rm -r .venv && make lock LOCK=`. torch stays a range, because its
# builds for one processor have versions of their own (2.13.0+cpu).
lock: $(READY)
	{ echo '# Versions that were tested together, by `make lock`; read by pip install --constraint.'; echo 'torch>=2.10'; \
	    $(BIN)/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==[0-9.a-z]+$$' | \
	    grep -vE '^(torch|torchvision|triton|nvidia-[a-z0-9-]+)==' ; } > .ci/constraints.new
	mv .ci/constraints.new .ci/constraints.txt

$(READY): pyproject.toml $(LOCK)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || \
	    $(BIN)/python -m pip install --quiet --retries 0 --timeout 20 'torch>=2.10' --index-url $(TORCH_CPU) 2>/dev/null || true
	$(BIN)/python -m pip install --quiet --editable '.[dev]' $(addprefix --constraint ,$(LOCK))
	touch $(READY)
