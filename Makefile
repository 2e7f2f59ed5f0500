# The commands of this project; `make help` lists them.
SHELL := /bin/bash
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)
BUILD_DIR ?= build/release
JOBS ?= $(shell nproc)
export JOBS
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1

.PHONY: help demo test test-tsan test-kernels test-gpu bench bench-gpu wheel format lint docs clean
.DEFAULT_GOAL := help

help: ## list these commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: ## a small Llama continues several prompts; installs and builds what that needs
	@tools/setup.sh build
	@tools/build.sh release quire_cli
	build/release/src/cli/quire generate --model examples/tinyllama/model \
	  --prompts examples/tinyllama/prompts.txt

test: ## every test and check that needs no GPU; installs and builds what that needs
	@tools/setup.sh test
	@.venv/bin/python tools/run_tests.py test

test-tsan: ## the kernels on the emulator under thread sanitizer
	@tools/setup.sh test
	@.venv/bin/python tools/run_tests.py tsan

test-kernels: ## every listed kernel compiled for four architectures: no spills
	@tools/setup.sh test
	@.venv/bin/python tools/run_tests.py kernels

test-gpu: ## the suites on a GPU, from a finished build in BUILD_DIR (see docs/testing.md)
	@$(PYTHON) tools/run_tests.py gpu --build-dir $(BUILD_DIR)

bench: ## CPU benchmarks: ratios to PyTorch, or to NumPy where PyTorch is missing
	@tools/setup.sh test
	@tools/build.sh release -DQUIRE_BUILD_PYTHON=ON \
	  -DPython_EXECUTABLE=$(CURDIR)/.venv/bin/python quire_ffi bench_plan
	@PYTHONPATH=python QUIRE_LIBRARY_DIR=build/release/python .venv/bin/python benchmarks/bench_cpu.py
	@build/release/benchmarks/bench_plan

bench-gpu: ## GPU benchmarks, from a finished build in BUILD_DIR (see docs/testing.md)
	@BUILD_DIR=$(BUILD_DIR) benchmarks/run_gpu.sh $(PYTHON)

wheel: ## the Python package with the preset of precompiled kernels, in dist/
	@tools/setup.sh test
	@VIRTUAL_ENV=$(CURDIR)/.venv .venv/bin/python -m build --wheel --no-isolation --outdir dist \
	  -Cbuild.targets=quire_ffi -Cbuild.targets=quire_cli -Cbuild.targets=quire_precompiled .

format: ## format C++ and Python
	@tools/setup.sh test
	@.venv/bin/python tools/format.py
	@.venv/bin/ruff format -q .

lint: ## the checks of `make test` that read sources only
	@tools/setup.sh test
	@.venv/bin/python tools/run_tests.py lint

docs: ## write docs/benchmarks.md and its plots from benchmarks/results
	@$(PYTHON) benchmarks/plot.py

clean: ## remove builds; keeps .venv and the compiler cache
	rm -rf build dist
