# What can be done here; `make help` lists it. CI calls nothing but these.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := runs/car_parts

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-kill corpus chaos light check format vendor bench bench-training bench-quality bench-losses bench-recipes bench-certainty bench-data bench-check bench-stream bench-distill bench-inference bench-report clean

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
	@$(BIN)/python -m pytest -n auto --dist worksteal

test-kill: $(STAMP)  ## predictions killed 25 times at random and gone on with
	@BERT_CLS_KILLS=25 $(BIN)/python -m pytest tests/test_predict.py tests/test_cli.py -k "killed or interrupted"

light: $(STAMP)  ## the base package alone predicts: make light ARGS="MODEL"
	@$(BIN)/python benchmarks/light_install.py $(ARGS)

check: $(STAMP)  ## the gate: style, types, import order, tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -n auto --dist worksteal

format: $(STAMP)  ## lay out the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: bench-data bench-check bench-report bench-stream bench-training bench-quality bench-distill  ## every benchmark but bench-losses, bench-recipes, bench-certainty (hours each) and bench-inference (asks for a MODEL)

bench-training: $(STAMP)  ## training speed against transformers' Trainer
	@$(BIN)/python -c "import accelerate" 2>/dev/null || $(BIN)/python -m pip install -q --progress-bar off -c constraints.txt -e '.[bench]'
	@$(BIN)/python benchmarks/training_speed.py $(ARGS)

bench-quality: $(STAMP)  ## scores against the linear bar on the measurement data
	@$(BIN)/python benchmarks/quality.py $(ARGS)

bench-losses: $(STAMP)  ## every multilabel loss against the others; hours, goes on where it was (ARGS="--table")
	@$(BIN)/python benchmarks/losses.py $(ARGS)

bench-recipes: $(STAMP)  ## rates, pooling, head's rate, passes, one at a time; goes on where it was (ARGS="--table")
	@$(BIN)/python benchmarks/recipes.py $(ARGS)

bench-certainty: $(STAMP)  ## calibration, abstaining, rows of another kind; goes on where it was (ARGS="--table")
	@$(BIN)/python benchmarks/certainty.py $(ARGS)

bench-data: $(STAMP)  ## one million rows read, checked and tokenised
	@$(BIN)/python benchmarks/data_pass.py $(ARGS)

bench-check: $(STAMP)  ## one million rows audited
	@$(BIN)/python benchmarks/audit_pass.py $(ARGS)

bench-stream: $(STAMP)  ## a long file through a 6-layer model; memory, overlap (ARGS="--rows N")
	@$(BIN)/python benchmarks/stream.py $(ARGS)

bench-distill: $(STAMP)  ## students against their teacher and against direct training
	@$(BIN)/python benchmarks/distillation.py $(ARGS)

corpus: $(STAMP)  ## 2,000 hostile inputs through the command line
	@$(BIN)/python tests/corpus.py $(ARGS)

bench-report: $(STAMP)  ## figures and report of 100,000 predicted rows
	@$(BIN)/python benchmarks/report.py $(ARGS)

# The chart library that is shipped inside the report, from the npm registry. To take a newer one:
# change both lines, and LIBRARY_SHA256 in tests/test_report.py.
CHART_VERSION := 4.6.1
CHART_SHA256 := 87364cc2b2a76a6684929e7d6b80b18a897794db38400caff1fcf1791c6925d2
ASSETS := src/bert_cls/report/assets

vendor:  ## fetch the report's chart library anew (npm; the file's sha256 is checked)
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	(cd $$scratch && npm pack --silent chart.js@$(CHART_VERSION) >/dev/null && tar xzf chart.js-$(CHART_VERSION).tgz) && \
	echo "$(CHART_SHA256)  $$scratch/package/dist/chart.umd.min.js" | sha256sum --check --quiet && \
	cp $$scratch/package/dist/chart.umd.min.js $(ASSETS)/chart.min.js && \
	cp $$scratch/package/LICENSE.md $(ASSETS)/chart.LICENSE

bench-inference: $(STAMP)  ## prediction speed against what people use: make bench-inference MODEL=FOLDER
	@$(BIN)/python benchmarks/inference.py $(MODEL) $(ARGS)

chaos: $(STAMP)  ## every fault: kills, signals, damage, lost ranks; is what is promised kept?
	@$(BIN)/python benchmarks/chaos.py $(ARGS)

clean:  ## remove what was built
	@rm -rf $(VENV) runs build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
