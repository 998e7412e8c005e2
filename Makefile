# Everything a developer runs, from `make` (prints help) to `make check`.
#
# The first target that needs it builds .venv from setup.cfg and constraints.txt; afterwards
# nothing touches the network until one of the two changes.

.DEFAULT_GOAL := help
.PHONY: help demo quality test fuzz check coverage fmt bench chaos mutations soak report-check page-check deploy-check clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Measured: 108 wheels of the development environment, 360 MB, and 36 MB of Java for the KCL
# and of JavaScript for a stream that splits.
DOWNLOAD := about 400 MB, one to three minutes

# PYTHON=... names the interpreter; else the first of these that is 3.11 to 3.13 and has venv.
PYTHON ?=
PYTHONS := $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11)
SUITABLE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

# Cheapest first, so that what is broken shows early.
SUITES := unit contracts properties integration e2e chaos
TESTS = $(if $(ONLY),$(ONLY),$(wildcard $(addprefix tests/,$(SUITES))))

help:  ## print this
	@echo 'make TARGET, where TARGET is'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

demo: $(STAMP)  ## the whole system here, proved by count; DEMO_TRANSACTIONS= DEMO_RATE= DEMO_SHARDS= KEEP=1
	@$(BIN)/python -m consumer.local.demo

# Two at a time, a file by one process: most tests wait for servers and processes of their own.
JOBS ?= 2
test: $(STAMP)  ## all tests, cheapest first; ONLY=tests/unit for some of them, K=word for those named so, JOBS=2
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(TESTS) $(if $(K),-k '$(K)')

SECONDS ?= 600
fuzz: $(STAMP)  ## search for what breaks a guarantee or a decoder; SECONDS=600, SEED= of a round that found it
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

check: $(STAMP)  ## lint, format, types, contracts between modules, coverage of what decides
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory coverage

# Every branch of what decides is taken by a unit test.
DECIDING := consumer/engine.py,consumer/rules/*,consumer/decision.py,consumer/decode.py,consumer/degraded.py,consumer/progress.py
coverage: $(STAMP)  ## the unit tests take every branch of engine, rules, decision, decode and progress
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest tests/unit -q
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --include='$(DECIDING)' --fail-under=100

fmt: $(STAMP)  ## format, and correct what a tool can correct
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## measure; ONLY=name for one figure; results in .bench/results.json
	@ONLY='$(ONLY)' $(BIN)/python -m tests.benchmarks

quality: $(STAMP)  ## both models on the public handbook's data; DATA=file.parquet FOLDS=2018-07-25[,…]; results in .quality
	@DATA='$(DATA)' FOLDS='$(FOLDS)' $(BIN)/python -m tests.quality

chaos: $(STAMP)  ## faults against known traffic, all of it checked; ONLY=name-part CHAOS_SEED= of a run to repeat
	@ONLY='$(ONLY)' CHAOS_SEED='$(CHAOS_SEED)' $(BIN)/python -m tests.chaos

mutations: $(STAMP)  ## take each protection out of a copy and see the fault suite notice; ONLY=word
	@ONLY='$(ONLY)' $(BIN)/python -m tests.chaos.mutations

soak: $(STAMP)  ## faults by chance; MINUTES=10 TIER=worker (or kcl: the daemon) TRANSACTIONS=at-least CHAOS_SEED=
	@MINUTES='$(MINUTES)' TIER='$(TIER)' TRANSACTIONS='$(TRANSACTIONS)' CHAOS_SEED='$(CHAOS_SEED)' \
		$(BIN)/python -m tests.chaos.soak

report-check: $(STAMP)  ## a report in headless Chromium, every picture drawn; looks are in .report/
	FRAUDSTREAM_REPORT_CHECK=.report $(BIN)/python -m pytest -q tests/integration/test_report_in_a_browser.py

page-check: $(STAMP)  ## the live page in headless Chromium, light and dark, wide and narrow; looks are in .page/
	FRAUDSTREAM_PAGE_CHECK=.page $(BIN)/python -m pytest -q tests/integration/test_live_page.py

deploy-check: $(STAMP)  ## what deploys it, each file by the real tool of its kind
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -q tests/deploy

clean:  ## remove all that was generated, except .venv with its downloads
	rm -rf build dist ./*.egg-info .demo .bench .chaos .quality .report .page .local .hypothesis .mypy_cache .pytest_cache \
		.ruff_cache .import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@set -e; \
	if [ ! -x $(BIN)/python ]; then \
		for candidate in $(PYTHONS); do \
			if $$candidate -c '$(SUITABLE)' 2>/dev/null; then found=$$candidate; break; fi; \
		done; \
		if [ -z "$${found:-}" ]; then \
			echo 'No Python 3.11 to 3.13 with venv among: $(PYTHONS).' >&2; \
			echo 'Install one (Debian, Ubuntu: apt-get install python3-venv) or name it: make PYTHON=/path/to/python3' >&2; \
			exit 1; \
		fi; \
		echo "Building $(VENV) with $$found: downloads $(DOWNLOAD). Later runs work offline."; \
		$$found -m venv $(VENV); \
	else \
		echo 'Bringing $(VENV) up to date.'; \
	fi; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
		-c constraints.txt -e '.[local,dev]'; \
	$(BIN)/python -m tests.chaos.kinesis_local >/dev/null 2>&1 || \
		echo 'kinesis-local was not to be had; make chaos fetches it on its first use.' >&2; \
	touch $(STAMP)
