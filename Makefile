# `make demo` and `make test` are the only set-up that a machine with Python 3.11 and a C++ compiler needs: both make
# .venv themselves. Variables, as in `make test PYTHON=/opt/python3.11/bin/python3`:
#   PYTHON       the interpreter .venv is made from
#   DEVICE       cpu or cuda: which constraints and which build of torch; cuda where nvidia-smi works
#   TORCH_INDEX  address of a package index with builds of torch for DEVICE. Without it pip's own configuration decides,
#                and on most machines that is the CUDA build, which runs on a CPU as well but is several gigabytes large.
#   WHEELS       folder of wheels for bench-gpu, on a machine without a network; TOY=1 tries it at toy size
#   TOKENS       prepared corpus that bench-gpu climbs the speed ladder on (benchmarks/gpu.sh)
#   JOBS         test files that are run side by side: one more than two cores, for some wait for SLURM
#   CORPUS       folder of texts that the demo trains on, in place of the Python installation's own

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
DEVICE ?= $(if $(shell nvidia-smi -L 2>/dev/null),cuda,cpu)
TORCH_INDEX ?=
CORPUS ?=
JOBS ?= 3
WHEELS ?=
TOY ?=

BIN := .venv/bin
CONSTRAINTS := requirements/constraints-$(DEVICE).txt
STAMP := .venv/installed-$(DEVICE)
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c $(CONSTRAINTS)

.PHONY: demo test check bench bench-gpu venv clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    raw text to a trained, killed, resumed and reported GPT (CORPUS=folder for other texts)"
	@echo "make test    the whole test suite"
	@echo "make check   linters, formatter, types, direction of imports"
	@echo "make bench   all benchmarks"
	@echo "make bench-gpu  speed and equality on the GPU, with the Python that has torch (PYTHON=, WHEELS=folder, TOY=1)"
	@echo "make venv    .venv only; the others make it when it is missing or out of date"
	@echo "make clean   remove caches and build outputs; .venv and runs stay"
.PHONY: help

demo: venv
	$(BIN)/megatron-nlg demo $(if $(CORPUS),--corpus "$(CORPUS)")

test: venv
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

check: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile docker/Dockerfile.cpu

bench: venv
	$(BIN)/python -m benchmarks.equality
	$(BIN)/python -m benchmarks.checkpoint
	$(BIN)/python -m benchmarks.corruption
	$(BIN)/python -m benchmarks.faults
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.read
	[ "$$(id -u)" != 0 ] || $(BIN)/python -m benchmarks.placement
	$(PIP_INSTALL) -e '.[bench]'
	$(BIN)/python -m benchmarks.train_cpu
	$(BIN)/python -m benchmarks.tokenize
	$(BIN)/python -m benchmarks.prep_pipeline
	$(BIN)/python -m benchmarks.prep_faults
	$(BIN)/python -m benchmarks.dedup

# No .venv: the machine's own torch is what is measured.
bench-gpu:
	PYTHON="$(PYTHON)" WHEELS="$(WHEELS)" TOKENS="$(TOKENS)" benchmarks/gpu.sh $(if $(TOY),--toy)

venv: $(STAMP)

# torch first and alone, so that a CPU build is in place before anything else asks for torch. DeepSpeed comes as source:
# DS_BUILD_OPS=0 keeps it from compiling kernels that this project does not use.
$(STAMP): pyproject.toml setup.py $(wildcard data_prep/dedup/kernel/*.h data_prep/dedup/kernel/*.cpp) $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "make: Python 3.11 is needed and $(PYTHON) is not that; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") torch
	DS_BUILD_OPS=0 $(PIP_INSTALL) -e '.[dev]'
	@touch $@

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find megatron_nlg data_prep launch tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
