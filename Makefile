# `make demo` and `make test` are all that a new user needs; each installs what it stands on.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DEMO_STAMP := .venv/.installed-demo
DEMO_PACKAGES := deployments/demo-requirements.txt
# Hundreds of processes start in the tests: let the first compile what the others load, whatever the shell says.
export PYTHONDONTWRITEBYTECODE :=
PIP := -m pip install --quiet --disable-pip-version-check --no-deps

# Exact packages, checked by hash; then this checkout itself, in editable mode.
define install_from
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) --require-hashes --requirement $(1)
	$(BIN)/python $(PIP) --no-build-isolation --editable .
endef

# The package with its sandbox: half of what the tests need.
$(DEMO_STAMP): pyproject.toml $(DEMO_PACKAGES)
	$(call install_from,$(DEMO_PACKAGES))
	touch $(DEMO_STAMP)

# The whole environment, which has all of that.
$(STAMP): pyproject.toml constraints.txt
	$(call install_from,constraints.txt)
	touch $(DEMO_STAMP) $(STAMP)

.PHONY: install demo test test-python slow check format bench table fuzz lock

install: $(STAMP)

# IMAGE=photo.jpg PROMPT="what happens": handed on in the environment as they are, so no quote or dollar in them breaks;
# and not at all where they are not given, so that an empty one is told from none.
ifneq ($(origin IMAGE),undefined)
override export IMAGE := $(value IMAGE)
endif
ifneq ($(origin PROMPT),undefined)
override export PROMPT := $(value PROMPT)
endif
demo: $(DEMO_STAMP)
	$(BIN)/python -m deployments.demo

test: $(STAMP)
	$(BIN)/python -m pytest -q -m "not slow" -n 3 --dist loadfile --rerun-show-tracebacks

# On another Python (PYTHON=python3.13): the wheel in an environment of its own, with the packages of the demo; a
# generation by the command, the demo's flow, and what is said without the extras. A minute or two.
ELSEWHERE := .venv-other
test-python:
	rm -rf $(ELSEWHERE)
	$(PYTHON) -m venv $(ELSEWHERE)
	$(ELSEWHERE)/bin/python $(PIP) --require-hashes --requirement $(DEMO_PACKAGES)
	$(ELSEWHERE)/bin/python $(PIP) --no-build-isolation .
	cd $(ELSEWHERE) && bin/python -I ../tests/installed_wheel.py
	rm -rf $(ELSEWHERE)

# Real servers, workers and processes; minutes, most of it waiting. Three files beside each other, in the order of their
# names, which begins with the longest: every worker of xdist has servers, buckets and work pools of its own.
slow: $(STAMP)
	$(BIN)/python -m pytest -q -m slow -n 3 --dist loadfile --no-loadscope-reorder --rerun-show-tracebacks

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

# What becomes of each input of the corpus, before it was looked into and now: images, manifests, URLs, notices, sidecars
# and stores, as Markdown. `make fuzz` changes them at random, COUNT of each kind, and MEDIA videos, sounds and images as
# outputs, each judged in a process of its own; ten minutes for 10,000, and some more for the media.
table: $(STAMP)
	$(BIN)/python -m tests.corpus.table

COUNT ?= 10000
MEDIA ?= 300
fuzz: $(STAMP)
	for kind in csv jsonl parquet xlsx sidecar notice provenance entry answer; do \
	  $(BIN)/python -W ignore -m tests.corpus.fuzzing $$kind $(COUNT) || exit 1; done
	$(BIN)/python -W ignore -m tests.corpus.fuzz_images $(COUNT)
	$(BIN)/python -W ignore -m tests.corpus.fuzz_media $(MEDIA)

# After a change of the ranges in pyproject.toml; needs uv.
LOCK := uv pip compile pyproject.toml build-requirements.in --universal --python-version 3.11 --generate-hashes \
  --no-annotate --no-header --no-emit-index-url --no-emit-find-links
lock:
	$(LOCK) --all-extras --output-file constraints.txt
	$(LOCK) --extra excel --extra server --extra report --extra telemetry --constraints constraints.txt \
	  --output-file deployments/production/requirements.txt
	$(LOCK) --extra sandbox --constraints constraints.txt --output-file $(DEMO_PACKAGES)
