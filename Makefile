# Each target sets up its own environment; a second call only checks that the stamp file is newer than the lock file.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
# Python writes its bytecode files even if the machine's default is not to: otherwise every process would compile JAX's
# modules again, which takes seconds.
export PYTHONDONTWRITEBYTECODE =
BIN := .venv/bin
INTEROP := .venv-interop
FLAX := .venv-flax
LIBMTL := .venv-libmtl
ADAPTATION := .venv-adaptation
RUNS ?= runs

.PHONY: demo test long faults interop interop-flax interop-libmtl interop-adaptation lint lock fixtures clean

demo: .venv/.ready
	@$(BIN)/python experiments/demo.py --workdir=$(RUNS)/demo

test: .venv/.ready
	@$(BIN)/python -m pytest -n 2 -m "not interop and not gpu and not network and not long and not faults" $(ARGS)

# The long tests that `make test` leaves out. CI runs both.
long: .venv/.ready
	@$(BIN)/python -m pytest -n 2 -m "long and not interop and not faults" $(ARGS)

# Planted faults, fuzzing and kills, of which the tests have a sample.
faults: .venv/.ready
	@$(BIN)/python -m pytest -n 2 -m faults $(ARGS)

interop: .venv/.ready $(INTEROP)/.ready
	@TLX_INTEROP_PYTHON=$(INTEROP)/bin/python $(BIN)/python -m pytest -m interop $(ARGS)

interop-flax: .venv/.ready $(FLAX)/.ready
	@TLX_FLAX_PYTHON=$(FLAX)/bin/python $(BIN)/python -m pytest -m interop tests/interop/test_flax.py $(ARGS)

interop-libmtl: .venv/.ready $(LIBMTL)/.ready
	@TLX_LIBMTL_PYTHON=$(LIBMTL)/bin/python $(BIN)/python -m pytest -m interop tests/interop/test_libmtl.py $(ARGS)

interop-adaptation: .venv/.ready $(ADAPTATION)/.ready
	@TLX_ADAPTATION_PYTHON=$(ADAPTATION)/bin/python $(BIN)/python -m pytest -m interop tests/interop/test_adaptation.py $(ARGS)

lint: .venv/.ready
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

# Makes the reference outputs under third_party/ by running the software they come from.
fixtures: $(INTEROP)/.ready $(FLAX)/.ready $(LIBMTL)/.ready
	$(INTEROP)/bin/python third_party/make/make.py
	$(INTEROP)/bin/python third_party/statistics/make.py
	$(INTEROP)/bin/python third_party/formats/make.py torch
	$(FLAX)/bin/python third_party/formats/make.py flax
	$(FLAX)/bin/python third_party/make/flax_names.py
	$(LIBMTL)/bin/python third_party/libmtl/make.py

lock: .venv/.ready
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url --extra demo --extra studies --extra adaptation --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .venv-*

.venv/.ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "tlx needs Python 3.11, 3.12 or 3.13 on the PATH; none was found (or say PYTHON=/path/to/python)."; exit 1; }
	@echo "setting up .venv with $(PYTHON) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Environments with other libraries: .venv-NAME has those of third_party/requirements-NAME.txt.
.venv-%/.ready: third_party/requirements-%.txt
	@echo "setting up .venv-$* with $(PYTHON) ..."
	@$(@D)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@
