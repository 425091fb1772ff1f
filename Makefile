# `make demo` and `make test` each do all set-up by themselves, once.
PYTHON ?= python3
BIN = .venv/bin

# The least that 64-bit x86 processors calculate with: what a test expects must hold there too.
OLD_KERNELS = OPENBLAS_CORETYPE=Prescott ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE \
	MKL_ENABLE_INSTRUCTIONS=SSE4_2 ONEDNN_MAX_CPU_ISA=SSE41
N = 200
SEED = 0

.PHONY: demo test nightly mutants lint docs benchmarks

demo: .venv/installed
	$(BIN)/genonset sweep src/genonset/experiments/digits.toml --workers 2 --out runs/demo

test: .venv/installed
	$(BIN)/python -m pytest -q -n 2

nightly: .venv/installed
	$(BIN)/python -m pytest -q -n 2 -m slow
	$(OLD_KERNELS) $(BIN)/python -m pytest -q -n 2 --ignore=tests/end_to_end

# N faults planted one at a time, each against the tests of its file: about an hour for 200.
mutants: .venv/mutants
	$(BIN)/python tools/mutants.py $(N) $(SEED)

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: .venv/installed
	$(BIN)/python -m sphinx -q -W -b html docs docs/_build/html

benchmarks: .venv/installed
	$(BIN)/python benchmarks/pair_sums.py
	$(BIN)/python benchmarks/linear_cells.py
	$(BIN)/python benchmarks/exact_denoiser.py
	$(BIN)/python benchmarks/start_up.py
	$(BIN)/python benchmarks/theory.py
	$(BIN)/python benchmarks/audit.py
	$(BIN)/python benchmarks/adaptive.py
	$(BIN)/python benchmarks/unet_gaussian.py --metric

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,docs]'
	touch $@

.venv/mutants: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[mutants]'
	touch $@
