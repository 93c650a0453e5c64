# What can be done here; `make help` lists it. CI calls nothing but these.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := runs/car_parts

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench bench-training bench-quality bench-data chaos clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(STAMP)  ## make a virtual environment with everything in it

$(STAMP): pyproject.toml constraints.txt
	@echo "setting up $(VENV) (a few minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --progress-bar off -c constraints.txt -e '.[dev]' | grep -v -E '^(Requirement already|Looking in|Obtaining|  )' || true
	@$(BIN)/python -c "import bert_cls, torch, transformers, sklearn, pytest"
	@touch $@

demo: $(STAMP)  ## train on examples/car_parts, evaluate, predict a sentence
	@$(BIN)/bert-cls train examples/car_parts -o $(DEMO) --overwrite
	@$(BIN)/bert-cls predict $(DEMO) --text '尾灯采用LED光源，晚上跟车看得很清楚' --top 3

test: $(STAMP)  ## all tests (under 5 minutes on 2 cores)
	@$(BIN)/python -m pytest

check: $(STAMP)  ## the gate: style, types, import order, tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest

format: $(STAMP)  ## lay out the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: bench-data bench-training bench-quality  ## every benchmark, one after the other

bench-training: $(STAMP)  ## training speed against transformers' Trainer
	@$(BIN)/python -c "import accelerate" 2>/dev/null || $(BIN)/python -m pip install -q --progress-bar off -c constraints.txt -e '.[bench]'
	@$(BIN)/python benchmarks/training_speed.py $(ARGS)

bench-quality: $(STAMP)  ## scores against the linear bar on the measurement data
	@$(BIN)/python benchmarks/quality.py $(ARGS)

bench-data: $(STAMP)  ## one million rows read, checked and tokenised
	@$(BIN)/python benchmarks/data_pass.py $(ARGS)

chaos: $(STAMP)  ## every fault: kills, signals, damage, lost ranks; is what is promised kept?
	@$(BIN)/python benchmarks/chaos.py $(ARGS)

clean:  ## remove what was built
	@rm -rf $(VENV) runs build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
