# Two commands do everything: `make demo` and `make test`. Each sets up what it needs in .venv/ first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check
# The make of macOS (3.81) cannot keep the output of parallel targets apart.
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
# Options for pytest; `make test` adds coverage.
PYTEST_ARGS ?=
# Coverage of lines and branches in percent, below which `make test` fails.
COVERAGE_FLOOR := 90

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types bundle architecture unit matrix bench docs js changelog clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "rtwidgets needs Python 3.11 or later: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 has no venv module here (on Debian: apt-get install python3-venv)"; rm -rf $(VENV); exit 1; }

.make/demo: pyproject.toml | $(PY)
	@echo "setting up $(VENV) (first time: a minute or two)"
	@$(PIP) install -q -e '.[demo]'
	@mkdir -p .make && touch $@

# The pip that a new venv of Python 3.11 to 3.13 brings does not know dependency groups.
.make/dev: pyproject.toml | $(PY)
	@echo "setting up $(VENV) for tests (first time: a few minutes)"
	@$(PIP) install -q --upgrade 'pip>=25.1'
	@$(PIP) install -q -e '.[demo]' --group dev
	@mkdir -p .make && touch $@ .make/demo

.make/bench: pyproject.toml | .make/dev
	@$(PIP) install -q --group bench
	@touch $@

demo: .make/demo  ## a live flight board in JupyterLab: real Postgres, real flights (ctrl-C stops all of it)
	@$(BIN)/rtwidgets demo $(ARGS)

# What can run side by side, on two cores.
PARALLEL = $(MAKE) --no-print-directory $(SYNC) -j2

check: .make/dev  ## lint, types, architecture page, unit tests: about a minute
	@$(PARALLEL) unit types lint architecture

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/pyright

bundle:
	$(PY) tools/js.py check

architecture:
	$(PY) tools/architecture.py check

unit: .make/dev
	$(PY) -m pytest -q -n auto --maxprocesses 4 --dist worksteal --ignore=tests/browser -m "not pg and not browser and not slow" $(PYTEST_ARGS)

test: .make/dev  ## everything: check, the front end's tests and bundles, real Postgres, real JupyterLab in real Chromium, coverage
	@rm -f .coverage .coverage.*
	@$(PARALLEL) unit bundle types lint architecture PYTEST_ARGS="--cov --cov-report="
	$(PY) tools/browser.py
	$(PY) -m pytest -m "pg or browser or slow" --cov --cov-append --cov-report=
	$(PY) -m coverage report --fail-under=$(COVERAGE_FLOOR)

matrix: .make/dev  ## the unit tests on the oldest and newest Python, pandas, websockets, anywidget and ipykernel
	$(PY) tools/matrix.py

bench: .make/bench  ## side-by-side measurements, printed as ratios and percentiles
	$(PY) -m bench

docs: .make/dev  ## the documentation as a site, into build/site/
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet && echo "build/site/index.html (its search needs a server: $(PY) -m http.server -d build/site)"

js: .make/dev  ## rebuild the committed bundles under rtwidgets/static/
	$(PY) tools/js.py build

changelog: .make/dev  ## show the release notes that changelog.d/ would make
	@$(BIN)/towncrier build --draft --version unreleased

clean:
	rm -rf .venv .make js/node_modules dist build .coverage .coverage.*
