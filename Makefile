# Each target sets up what it needs on a machine that has Python 3.11 or newer and make.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
WORKERS ?= 2
DIR ?= demo-shop

.PHONY: demo test test-slow soak check bench clean
.SILENT:

demo: .venv/.run           ## a sample shop, and the whole main job on it
	$(BIN)/guard demo $(DIR)

test: .venv/.dev           ## what every change must pass
	$(BIN)/pytest -n $(WORKERS)

test-slow: .venv/.oracle   ## kill and fault tests, real OS users, oracles
	$(BIN)/pytest -n $(WORKERS) -m "slow and not soak"

soak: .venv/.oracle        ## the full counts
	$(BIN)/pytest -n $(WORKERS) -m "slow or soak" --timeout 3600

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(patsubst bench/%.py,bench-%,$(filter-out bench/_%.py bench/harness.py,$(wildcard bench/*.py)))

bench-%: .venv/.dev
	$(BIN)/python -m bench.$*

bench-fields: .venv/.bench-fields

.venv/.run: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "guard needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --editable '.[detect,postgres,mysql,cluster,tsa]'
	touch $@

.venv/.dev: .venv/.run
	$(PIP) --editable '.[detect,postgres,mysql,cluster,tsa,dev]'
	touch $@

.venv/.oracle: .venv/.dev
	$(PIP) --editable '.[oracle-ledger]'
	touch $@

.venv/.bench-fields: .venv/.dev
	$(PIP) --editable '.[bench-fields]'
	touch $@

clean:
	rm -rf .venv demo-shop bench/out
