# The two commands of the README: `make demo` and `make test`. Both make the environment first, once.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test chaos lint pins clean

setup: .venv/.ready

.venv/.ready: requirements.txt pyproject.toml scripts/setup.sh
	PYTHON=$(PYTHON) ./scripts/setup.sh

demo: setup
	$(BIN)/sweeper run experiments/quickstart.yaml

test: setup
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# Fifty killed workers, twenty killed drivers, ten lost nodes, at random moments: 35 minutes on two cores.
chaos: setup
	$(BIN)/python -m tests.chaos --workers 50 --drivers 20 --nodes 10 --seed 1

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

# Resolves the pinned list anew: names and versions only, for every platform.
pins:
	$$(command -v uv || echo .uv/bin/uv) pip compile pyproject.toml --group dev --universal --python-version 3.11 \
		--no-header --no-annotate --upgrade --output-file requirements.txt

clean:
	rm -rf .venv .uv build dist *.egg-info
