# Two commands do everything on a fresh machine with Python 3.11: `make demo` and `make test`.
# Each makes the environment it needs in $(VENV); a second run reuses it.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
TEST_WORKERS ?= 2
BIN := $(VENV)/bin
# Python compiles what it imports and keeps that; pip would compile all 20,000 modules, for over a minute.
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test faults unit check format docs screenshots site migration wheel-check api-clients constraints supply-chain clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(VENV)/.demo  ## the whole system on this machine: photographs in, scores out (ARGS=--once, ARGS="--photos DIR")
	@$(BIN)/dpiqa demo $(ARGS)

test: $(VENV)/.test  ## every test, against real Postgres, Valkey, S3 and worker processes (ARGS="-k name")
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadscope --no-loadscope-reorder $(ARGS)

faults: $(VENV)/.test  ## the fault suite in its long form, five times each, with a table (FAULTS_REPEATS=5, ARGS="-k kills")
	@FAULTS_REPEATS=$(or $(FAULTS_REPEATS),5) $(BIN)/python -m pytest -q -n 0 tests/faults $(ARGS)

unit: $(VENV)/.test  ## the tests that need no server and train nothing, in under a minute
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadscope -m "not slow and not heavy" tests/unit $(ARGS)

check: $(VENV)/.dev  ## linter, formatter, types, import contracts, house rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python .ci/house_rules.py

format: $(VENV)/.dev  ## correct what the linter and the formatter can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.dev  ## write the reference pages and the table of layers in docs/ from the program
	@$(BIN)/python docs/make_reference.py

screenshots: $(VENV)/.test $(VENV)/.demo  ## write the pictures of docs/images from a demo; needs Chromium
	@$(BIN)/python docs/make_screenshots.py

site: $(VENV)/.dev  ## build the documentation site into build/site; a link that leads nowhere is an error
	@NO_COLOR=1 $(BIN)/zensical build --strict --clean

migration: $(VENV)/.dev  ## write a migration from what changed in the tables (MESSAGE="..."); see CONTRIBUTING.md
	@$(BIN)/dpiqa db revision "$(or $(MESSAGE),$(error say what changes: make migration MESSAGE="A column for the camera"))"

wheel-check: $(VENV)/.dev  ## build the wheel, install it into an empty environment, look at what it owns
	@$(BIN)/python .ci/check_wheel.py

api-clients: $(VENV)/.dev  ## generate clients in Python and TypeScript from the OpenAPI document, and check that they work
	@$(BIN)/python .ci/api_clients.py

constraints: $(VENV)/.dev  ## write deploy/constraints.txt: the versions that this environment's tests passed with
	@$(BIN)/python .ci/supply_chain.py constraints

supply-chain: $(VENV)/.dev  ## known vulnerabilities, licences, and the bill of materials in build/
	@$(BIN)/python .ci/supply_chain.py sbom
	@$(BIN)/python .ci/supply_chain.py licences
	@$(BIN)/python .ci/supply_chain.py audit

clean:  ## remove environments and build outputs
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("dpiqa needs Python 3.11 or newer: make ... PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) || { echo "error: cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }

# One stamp per set of requirements, renewed when pyproject.toml changes. `test` and `dev` are dependency groups on top
# of everything that users install; pip reads groups from 25.1 on, and a new environment may have an older one.
$(VENV)/.demo: REQUIREMENTS := --editable '.[demo]'
$(VENV)/.test: REQUIREMENTS := --editable '.[all]' --group test
$(VENV)/.dev: REQUIREMENTS := --editable '.[all]' --group dev
$(VENV)/.demo $(VENV)/.test $(VENV)/.dev: $(VENV)/.%: pyproject.toml | $(BIN)/python
	@echo "installing what \`make $*\` needs into $(VENV) (the first time takes a few minutes: PyTorch is large)"
	@$(PIP_INSTALL) 'pip>=25.1'
	@PYTHONWARNINGS=ignore $(PIP_INSTALL) $(REQUIREMENTS)  # setuptools warns of every editable install
	@touch $@
