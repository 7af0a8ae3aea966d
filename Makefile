# Two commands do everything: `make demo` and `make test`. Each sets up what it needs in .venv/ first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types bundle unit oldest bench js docs clean

help:  ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "rtwidgets needs Python 3.11 or later: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "python3 has no venv module here (on Debian: apt-get install python3-venv)"; rm -rf $(VENV); exit 1; }

.make/demo: pyproject.toml | $(PY)
	@echo "setting up $(VENV) (first time: a minute or two)"
	@$(PY) -m pip install -q --disable-pip-version-check -e '.[demo]'
	@mkdir -p .make && touch $@

.make/dev: pyproject.toml | $(PY)
	@echo "setting up $(VENV) for tests (first time: a few minutes)"
	@$(PY) -m pip install -q --disable-pip-version-check -e '.[dev]'
	@mkdir -p .make && touch $@ .make/demo

.make/bench: pyproject.toml | .make/dev
	@$(PY) -m pip install -q --disable-pip-version-check -e '.[bench]'
	@touch $@

demo: .make/demo  ## a live flight board in JupyterLab: real Postgres, real flights (ctrl-C stops all of it)
	@$(BIN)/rtwidgets demo $(ARGS)

check: .make/dev  ## lint, types, bundle, unit tests: under a minute
	@$(MAKE) --no-print-directory --output-sync=target -j2 unit bundle types lint

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/pyright

bundle:
	$(PY) tools/js.py check

test: check  ## everything: what check does, then real Postgres, real JupyterLab, real Chromium
	$(PY) tools/browser.py
	$(PY) -m pytest -m "pg or browser or slow"

unit: .make/dev
	$(PY) -m pytest -q -m "not pg and not browser and not slow"

oldest:  ## the tables' tests on the oldest pandas that we support, in a venv of its own
	@test -x build/oldest/bin/python || $(PYTHON) -m venv build/oldest
	@build/oldest/bin/python -m pip install -q --disable-pip-version-check -e '.[local]' 'pandas==2.2.*' hypothesis psutil pytest pytest-asyncio pytest-timeout
	build/oldest/bin/python -m pytest -q -m "not slow" tests/data tests/widgets

bench: .make/bench  ## side-by-side measurements, printed as ratios and percentiles
	$(PY) -m bench

docs: .make/dev  ## the documentation as a site, into build/site/
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet && echo "build/site/index.html (its search needs a server: $(PY) -m http.server -d build/site)"

js: .make/dev  ## rebuild the committed bundles under rtwidgets/static/
	$(PY) tools/js.py build

clean:
	rm -rf .venv .make js/node_modules dist build
