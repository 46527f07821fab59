# Each target makes .venv and installs what it needs; only Python, make and pip are
# expected to be there.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test soak check format bench clean

demo: $(READY)  ## The whole job in a minute; leaves demo-output/ to look at
	$(BIN)/connectorkit demo --dir demo-output

test: $(READY)  ## All tests, on real servers; under five minutes
	$(BIN)/pytest -n 2 -m "not soak"

soak: $(READY)  ## What is long
	$(BIN)/pytest -m soak --timeout 1800

check: $(READY)  ## Lint and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY)  ## Every benchmark; each prints JSON on its last line
	@set -e; for each in tests/benchmarks/[a-z]*.py; do \
		echo "== $$each"; $(BIN)/python $$each; \
	done

clean:
	rm -rf .venv demo-output dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[all,celery,dask]' --group test --group check
	@touch $@
