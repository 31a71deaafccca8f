# Everything a person needs: make run, make test. Works as root and as a user; needs Python >= 3.11.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PORT ?= 8501
# The locked closure as it is: nothing is resolved or built, so what the index serves today changes nothing.
# Twice quiet: a machine's own pip settings may warn, errors still show.
INSTALL = $(PY) -m pip install -qq --disable-pip-version-check --no-deps --only-binary :all: --require-hashes
CHROMIUM := $(firstword $(wildcard /usr/bin/chromium /usr/bin/chromium-browser /usr/bin/google-chrome))

export APP_ENV ?= development
ifeq ($(wildcard .env),)  # whoever has an .env says there where people reach it
export APP_URL ?= http://localhost:$(PORT)
endif
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: run worker migrate check test test-deep browser bench lock clean
.DEFAULT_GOAL := run

run: $(VENV)/runtime  ## the app on http://localhost:8501, with its database and demo data
	@exec $(PY) -m streamlit run app.py --server.port $(PORT)

worker: $(VENV)/runtime
	$(PY) -m core worker

migrate: $(VENV)/runtime
	$(PY) -m core migrate

check: $(VENV)/dev  ## format, lint, types, import contract, sizes
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports
	$(PY) -m pytest tests/test_layout.py

test: check  ## every layer, fast ones first
	$(PY) -m pytest -n 2 --dist loadfile -m "not browser and not faults and not deep" --ignore tests/test_layout.py
	$(MAKE) browser
	$(PY) -m pytest -m browser
	$(PY) -m pytest -n 2 --dist loadfile -m faults

browser:  ## a Chromium for the browser layer: installed as root, asked for otherwise
ifeq ($(CHROMIUM),)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; \
	else \
	  echo "The browser layer needs Chromium. Install it, then run make test again:"; \
	  echo "  sudo apt-get install chromium"; exit 1; \
	fi
endif

test-deep: test  ## hours: installs by other pips, then every day that is unlike the others
	$(PY) -m pytest -m deep
	$(PY) -m tests.days

bench: $(VENV)/dev  ## the benchmarks beside their baselines, as tables
	$(PY) -m benchmarks

lock: $(VENV)/dev  ## requirements*.txt from pyproject.toml, with hashes
	$(VENV)/bin/uv pip compile pyproject.toml --generate-hashes --no-header --no-emit-index-url \
	  --python-version 3.11 --universal --quiet -o requirements.txt
	$(VENV)/bin/uv pip compile pyproject.toml --extra dev -c requirements.txt --generate-hashes \
	  --no-header --no-emit-index-url --python-version 3.11 --universal --quiet -o requirements-dev.txt

clean:
	rm -rf $(VENV) .data .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Purser needs Python 3.11 or newer (PYTHON=/path/to/python make run)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime: requirements.txt | $(VENV)/bin/python
	@echo "Installing what Purser needs (once, about a minute) ..."
	@$(INSTALL) -r requirements.txt
	@touch $@

$(VENV)/dev: requirements-dev.txt | $(VENV)/runtime
	@$(INSTALL) -r requirements-dev.txt
	@touch $@
