# `make demo` and `make test` are all that a new user needs; each installs what it stands on.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# The whole environment, exact and checked by hash; then this checkout itself, in editable mode.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(STAMP)

.PHONY: install demo test slow check format bench lock

install: $(STAMP)

# IMAGE=photo.jpg PROMPT="what happens": handed on in the environment as they are, so no quote or dollar in them breaks.
override export IMAGE := $(value IMAGE)
override export PROMPT := $(value PROMPT)
demo: $(STAMP)
	$(BIN)/python -m deployments.demo

test: $(STAMP)
	$(BIN)/python -m pytest -q -m "not slow" -n 3 --dist loadfile

# Real servers, workers and processes; minutes. Two files beside each other, in the order of their names, which begins
# with the longest: every worker of xdist has servers, buckets and work pools of its own.
slow: $(STAMP)
	$(BIN)/python -m pytest -q -m slow -n 2 --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_exported_members.py

format: $(STAMP)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(STAMP)
	$(BIN)/python -m benchmarks.polling
	$(BIN)/python -m benchmarks.transfer
	$(BIN)/python -m benchmarks.connections
	$(BIN)/python -m benchmarks.cold_start
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.journal
	$(BIN)/python -m benchmarks.in_flight
	$(BIN)/python -m benchmarks.batch
	$(BIN)/python -m benchmarks.catalogue --generations 2000

# After a change of the ranges in pyproject.toml; needs uv.
lock:
	uv pip compile pyproject.toml build-requirements.in --all-extras --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --output-file constraints.txt
	uv pip compile pyproject.toml build-requirements.in --extra excel --extra server --extra report --extra telemetry --constraints constraints.txt --universal \
	  --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
	  --output-file deployments/production/requirements.txt
