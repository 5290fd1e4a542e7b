# Two commands for a newcomer: `make demo` and `make test`.  Both set up .venv by themselves.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin
export NUMBA_CACHE_DIR ?= $(CURDIR)/.numba
READY := $(VENV)/.ready
SHARED := -n 3 --dist loadgroup --no-loadscope-reorder

.PHONY: demo test fast slow check bench lock up clean

demo: $(READY)  ## the whole machine on a simulated venue: record, features, train, score, report
	$(RUN)/tidebook demo

test: $(READY) check  ## every test, fast ones first
	$(RUN)/python -m pytest $(SHARED) -m "not slow and not prefect"
	$(RUN)/python -m pytest $(SHARED) -m "prefect or slow" --durations=15

fast: $(READY)  ## the tests of a minute or two
	$(RUN)/python -m pytest $(SHARED) -m "not slow and not prefect"

check: $(READY)  ## style and types
	$(RUN)/ruff check .
	$(RUN)/mypy

bench: $(READY)  ## against peers, side by side; installs them apart on first use
	$(RUN)/python bench/run.py

up: $(READY)  ## Prefect, worker, deployments and MLflow until Ctrl-C
	$(RUN)/tidebook up

# The lock is whole, so nothing is resolved here; hashes are checked, byte code is made once,
# and the kernels are compiled into the cache before anybody waits for them.
$(READY): requirements.lock pyproject.toml
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(RUN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(RUN)/tidebook warm
	touch $@

lock:  ## resolve anew, with uv; no index or host may be written into the file
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) .numba .pytest_cache .mypy_cache .ruff_cache .hypothesis
