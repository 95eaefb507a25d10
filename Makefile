# Two commands for a newcomer: `make run` and `make test`. They need Python 3.11 to 3.14, make and git.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= 3
# What is set for other projects would hide the locked packages, install them elsewhere, or drop docstrings.
unexport PYTHONHOME PYTHONOPTIMIZE PYTHONPATH PYTHONWARNINGS PIP_PREFIX PIP_TARGET
# The files of this repository are in UTF-8, whatever the locale says.
export PYTHONUTF8 := 1
# A .venv whose Python is gone, or a newer one that finds no packages there, is made anew. One without a link to Python
# is another system's, or another make is making it.
$(shell test ! -L $(BIN)/python || $(BIN)/python -I -c 'import os, sysconfig as s; os.stat(s.get_path("purelib", vars={"base": ".venv"}))' 2> /dev/null || rm -rf .venv)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR: # or the next run would take a failed attempt's .venv, which lacks pip, for a good one
.PHONY: help run test promtool schemathesis browser screenshots check format settings sbom lock \
	bench bench-full bench-peers bench-footprint bench-scaling bench-page

help: ## Show the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-15s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sqlite3, ssl, sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer with sqlite3 and ssl is needed: make PYTHON=python3.13 …, for example, names another"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "No .venv: if Python says that ensurepip or venv is missing, install your system's python3-venv"; exit 1; }

# pip would compile what it installs on one core.
define installed
@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-user --require-hashes --no-deps --no-compile -r $(1) \
	|| { echo "Not installed: \"from versions: none\" means that pip reaches no package index, \"No module named pip\" that another make is at work or was killed (rm -rf .venv)"; exit 1; }
@$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
endef

# The time of a stamp is that of the installation. The development lock includes the other one, so it renews both.
.venv/run.stamp: requirements.lock | $(BIN)/python
	@echo "Installing the service's packages (once) ..."
	$(call installed,requirements.lock)
	@touch $@

.venv/dev.stamp: requirements-dev.lock | $(BIN)/python
	@echo "Installing the test packages (once) ..."
	$(call installed,requirements-dev.lock)
	@touch .venv/run.stamp $@

.venv/bench.stamp: requirements-bench.lock .venv/dev.stamp
	@echo "Installing the benchmark's packages (once) ..."
	$(call installed,requirements-bench.lock)
	@touch $@

run: .venv/run.stamp ## Serve on port 8080 with the mock judge (or with what .env says)
	@exec $(BIN)/python -m tools.run

test: .venv/dev.stamp ## Run the tests, JOBS of them side by side
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

schemathesis: .venv/dev.stamp ## Ask a real process with requests drawn from its OpenAPI document
	@$(BIN)/python -m pytest -q tests/system/test_openapi_by_schemathesis.py

promtool: .venv/dev.stamp ## Check metrics, alerts and dashboard (needs Prometheus' promtool)
	@command -v promtool > /dev/null || { echo "promtool is missing: install your system's prometheus package"; exit 1; }
	promtool check config deploy/prometheus/prometheus.yml
	promtool test rules deploy/prometheus/rules_test.yml
	@$(BIN)/python -m pytest -q tests/system/test_promtool.py

browser: .venv/dev.stamp ## Look at the pages in headless Chromium
	@command -v chromium >/dev/null || { echo "Chromium is missing: install your system's package chromium"; exit 1; }
	@$(BIN)/python -m pytest -q -n $(JOBS) tests/browser

screenshots: .venv/dev.stamp ## Take the pictures of the operations page anew (needs Chromium)
	@$(BIN)/python -m tests.browser.screenshots docs/images

check: .venv/dev.stamp ## Everything that CI checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/python -m yamllint --strict .yamllint.yml deploy
	$(BIN)/python -m check_jsonschema --builtin-schema vendor.compose-spec deploy/docker-compose.yml
	$(BIN)/python -m kubernetes_validate --strict --quiet $(filter-out %/kustomization.yaml %/scaled-object.example.yaml,$(wildcard deploy/k8s/*.yaml))
	$(BIN)/python -m tools.settings --check
	$(BIN)/python -m tools.events
	$(BIN)/python -m tools.api
	$(BIN)/python -m bandit --quiet --recursive --severity-level medium --skip B104 *.py api implementations tools
	$(BIN)/python -m tools.audit
	@$(MAKE) --no-print-directory test PYTEST_ARGS='-m "not untraced" --cov --cov-report=term'
	@$(MAKE) --no-print-directory test PYTEST_ARGS='-m untraced'
	@$(MAKE) --no-print-directory promtool schemathesis browser

format: .venv/dev.stamp ## Format the code, write what is generated
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/python -m tools.settings --write
	$(BIN)/python -m tools.events --write
	$(BIN)/python -m tools.api --write

settings: .venv/run.stamp ## Show every setting as `make run` finds it, and where it comes from
	@$(BIN)/python -m tools.settings

sbom: .venv/dev.stamp ## Write sbom.json (CycloneDX) of what the service runs on
	$(BIN)/python -m cyclonedx_py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --output-file sbom.json

bench: .venv/bench.stamp ## Show in three minutes what a request costs
	@$(BIN)/python -m bench short

bench-full: .venv/bench.stamp ## Measure every setup at every load
	@$(BIN)/python -m bench full

bench-peers: .venv/bench.stamp ## Measure LiteLLM, Portkey and us in turns (needs Node.js)
	@$(BIN)/python -m bench peers

bench-footprint: .venv/bench.stamp ## Measure the start, and memory over 100,000 requests and 5 minutes of faults
	@$(BIN)/python -m bench footprint

bench-scaling: .venv/bench.stamp ## Measure replicas and their restart behind HAProxy (needs haproxy)
	@$(BIN)/python -m bench scaling

bench-page: .venv/bench.stamp ## Write what was measured into docs/
	@$(BIN)/python -m bench page

lock: ## Lock the dependencies again (needs pdm)
	pdm lock --group dev --group bench
	pdm export --format requirements --prod --output requirements.lock
	pdm export --format requirements --group dev --output requirements-dev.lock
	pdm export --format requirements --no-default --group bench --output requirements-bench.lock
