# Everything happens in .venv of this folder, which is made once and reused.
# Windows, or no make: README.md has the same two as plain commands.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

# One process for each core: slow tests wait for processes that they start, and for their imports, most of the time.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --dist worksteal
QUICK := $(PYTEST) -m "not slow"
SLOW := $(PYTEST) -m slow

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test test-aarch64 quick fuzz lint docs wheels bench-ship bench-build bench-quality bench-engine bench-serve bench-measure bench-validate soak bench-foundry clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.build: pyproject.toml constraints.txt
	@echo "setting up .venv (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(INSTALL) '.[serve]'
	@touch $@

.venv/.dev: .venv/.build
	@echo "adding what tests and checks need (once; PyTorch is the largest part; a browser for the page's tests)"
	@$(INSTALL) '.[original,foundry,serve,otel,clients,dev]'
	@$(BIN)/python -m tests.browser
	@touch $@

setup: .venv/.build ## make .venv with all that running and building needs
setup-dev: .venv/.dev ## the same, with PyTorch and the tools to test and check

demo: setup ## ship the example model end to end
	@$(BIN)/edgeship ship examples/triage/checkpoint --eval examples/triage/eval.jsonl --name triage

test: setup-dev lint ## every check and test
	@$(QUICK)
	@$(SLOW)

test-aarch64: setup-dev ## ship the example on an emulated aarch64 (Linux x86_64 with apt-get; downloads 250 MB once)
	@$(BIN)/python -m pytest tests/test_aarch64.py --aarch64 -s

quick: setup-dev ## the quick tests only
	@$(QUICK)

fuzz: setup-dev ## damage what strangers bring, for an hour (ARGS="--minutes 5 --seed 2")
	@$(BIN)/python -m tests.fuzz --minutes 60 $(ARGS)

lint: setup-dev ## style, and types on Linux, Windows and macOS
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@printf '%s\n' linux win32 darwin | xargs -P 3 -I SYSTEM $(BIN)/mypy --platform SYSTEM --cache-dir .mypy_cache/SYSTEM

docs: setup-dev ## write the generated parts of docs/
	@$(BIN)/python docs/generate.py

wheels: setup-dev ## ask pip for which systems there are wheels, for docs/versions.md; by hand, some minutes
	@$(BIN)/python docs/wheels.py

bench-ship: setup-dev ## an installed package against onnxruntime-genai as it comes
	@$(BIN)/python benchmarks/bench_ship.py

bench-build: setup-dev ## the builder against llama.cpp, onnxruntime-genai and Olive
	@$(BIN)/python benchmarks/bench_build.py $(ARGS)

bench-quality: setup-dev ## recipes on real models, beside llama.cpp and onnxruntime-genai, by what they say
	@$(BIN)/python benchmarks/bench_quality.py $(ARGS)

bench-engine: setup-dev ## the engine against llama.cpp and onnxruntime-genai
	@$(BIN)/python benchmarks/bench_engine.py $(ARGS)

bench-serve: setup-dev ## the server against its engine alone and llama.cpp's server
	@$(BIN)/python benchmarks/bench_serve.py $(ARGS)

bench-measure: setup-dev ## what measuring costs, and how long measurements take
	@$(BIN)/python benchmarks/bench_measure.py $(ARGS)

bench-validate: setup-dev ## what the release gate catches, whether it raises false alarms, and how long it takes
	@$(BIN)/python benchmarks/bench_validate.py $(ARGS)

soak: setup-dev ## mixed load on the server for 30 minutes (ARGS="--minutes 5")
	@$(BIN)/python benchmarks/bench_serve.py --only soak $(ARGS)

bench-foundry: setup-dev ## Foundry Local with our packages, beside the defaults and the other engines
	@$(BIN)/python benchmarks/bench_foundry.py $(ARGS)

clean: ## remove .venv and what benchmarks left
	rm -rf .venv benchmarks/work
