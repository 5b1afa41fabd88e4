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

.PHONY: install
install: $(STAMP)
