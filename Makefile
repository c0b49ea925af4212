# The ways in. `make help` lists them; each one sets up what it needs first.
# Written for GNU make 3.81 or newer (macOS has that one).

PYTHON_BIN := .venv/bin/python
ARTIFACTS ?= artifacts
PYTEST_ARGS ?=
# Real Macs where they can be had, simulated ones everywhere else.
SYSEXT_PROVIDER ?= $(shell if [ "`uname -sm`" = "Darwin arm64" ] && command -v tart >/dev/null 2>&1; then echo tart; else echo simulated; fi)
SYSEXT_MACOS ?= 13,14,15,26
SYSEXT_APP ?= scenarios/apps/mitmproxy.toml
# Macs mostly wait, so more simulated ones than cores are of use; of real ones a host may run two.
SCENARIO_WORKERS := $(or $(SYSEXT_WORKERS),$(if $(filter simulated,$(SYSEXT_PROVIDER)),4,2))
# Tests also wait a lot: three keep two cores busy.
TEST_WORKERS := $(or $(SYSEXT_WORKERS),3)
SCENARIO_TIMEOUT ?= $(if $(filter simulated,$(SYSEXT_PROVIDER)),600,7200)

UPGRADES ?= matrix
UPGRADE_MACOS ?= $(if $(filter command line environment,$(origin SYSEXT_MACOS)),$(SYSEXT_MACOS),15,26)

# How many workers is make's business, not a setting of the harness.
unexport SYSEXT_WORKERS
# Set in many containers: each of the many processes of a run would compile the harness anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup test-setup scenarios upgrades test check bench bench-screens bench-triage bench-repro report clean

help: ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r target text; do printf '%-20s %s\n' "$$target" "$$text"; done
	@echo
	@echo "  SYSEXT_PROVIDER=tart|simulated  SYSEXT_MACOS=13,14,15,26  SYSEXT_APP=FILE  SYSEXT_WORKERS=2"
	@echo "  SYSEXT_FAULT=CODE (see docs/faults.md)  PYTEST_ARGS='-k reboot'"

setup: ## make .venv with everything the harness needs; quick when nothing changed
	@scripts/bootstrap.sh

test-setup:
	@scripts/bootstrap.sh --system-packages

# Old results are removed here: with --clean-alluredir each worker would remove what the others have written.
scenarios: setup ## run all scenarios (simulated Macs, or real ones where Tart is)
	@rm -rf $(ARTIFACTS)/allure
	$(PYTHON_BIN) -m pytest scenarios -n $(SCENARIO_WORKERS) --tb short --timeout $(SCENARIO_TIMEOUT) \
	  --sysext-app $(SYSEXT_APP) --sysext-provider $(SYSEXT_PROVIDER) --sysext-macos $(SYSEXT_MACOS) \
	  --alluredir $(ARTIFACTS)/allure --junit-xml $(ARTIFACTS)/junit.xml $(PYTEST_ARGS)

upgrades: setup ## walk the app file's upgrade matrix (docs/upgrades.md); UPGRADES='previous via any': a part
	$(PYTHON_BIN) -m pytest scenarios/test_upgrade_paths.py -n $(SCENARIO_WORKERS) --tb short --timeout $(SCENARIO_TIMEOUT) \
	  --sysext-app $(SYSEXT_APP) --sysext-provider $(SYSEXT_PROVIDER) --sysext-macos $(UPGRADE_MACOS) \
	  --sysext-upgrade '$(UPGRADES)' --junit-xml $(ARTIFACTS)/upgrades.xml $(PYTEST_ARGS)

test: test-setup ## run the harness's own tests
	$(PYTHON_BIN) -m pytest tests -n $(TEST_WORKERS) --dist worksteal --durations 30 --durations-min 2 $(PYTEST_ARGS)

check: setup ## lint, format, types, layers
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: test-setup ## run the benchmarks; each prints its table and fails below its floor
	@status=0; for bench in benchmarks/bench_*.py; do [ -e "$$bench" ] || continue; \
	  echo "== $$bench"; $(PYTHON_BIN) -m "benchmarks.$$(basename "$$bench" .py)" || status=1; done; exit $$status

bench-screens: setup ## how well real screenshots are read (benchmarks/bench_screens.py)
	$(PYTHON_BIN) -m benchmarks.bench_screens

bench-triage: setup ## how well causes are named: the table, and its floors
	$(PYTHON_BIN) -m benchmarks.bench_triage
	$(PYTHON_BIN) -m benchmarks.bench_triage_faults

bench-repro: setup ## is `sysext repro` wrong as seldom as it says? (long: BENCH_REPRO='--experiments 200')
	$(PYTHON_BIN) -m benchmarks.bench_repro --statistics --machines $(BENCH_REPRO)

report: ## make the HTML report of the last scenarios (needs npm)
	@scripts/report.sh $(ARTIFACTS)/allure $(ARTIFACTS)/report

clean: ## remove what the targets made (.venv too)
	rm -rf .venv artifacts build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
