# make run    set up, and start the stack         make test   set up, and check everything
# Everything is installed into .venv; nothing else on the machine changes.

PYTHON ?= python3
VENV := .venv
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help run install test mutants prune soak bench bench-check picture format clean new-venv

help:  ## say what can be made
	@sed -n 's/^\([a-z-]*\):.*## /make \1: /p' $(MAKEFILE_LIST)

run: install  ## start Redis, web and worker; Ctrl-C ends them
	@exec python -m jobs.stack start

install: $(VENV)/installed .env  ## make .venv and .env

test: $(VENV)/installed  ## lint, types, and all tests
	ruff check .
	ruff format --check .
	mypy
	pytest -n 4 --dist worksteal

mutants: $(VENV)/installed  ## change FILE=jobs/queue/records.py in many small ways; show which no unit test notices
	python -m pip install --quiet --constraint constraints.txt --editable ".[mutants]"
	python -m tests.mutants $(FILE)

prune: install  ## show what old runs would lose (files, then records); with YES=1, delete it
	@python -m jobs.stack run python -m jobs.prune $(if $(YES),--yes)

soak: $(VENV)/installed  ## kill everything, at random and then at each step, and see that no run is lost
	SOAK_RUNS=300 CROWD_RUNS=5000 pytest -s tests/soak
	LONG=1 WARM_RUNS=200 pytest -n 4 tests/integration
	CRASH_FACTOR=1 pytest -n 4 tests/crash
	CRASH_ALL=1 pytest -n 4 tests/crash

bench: $(VENV)/installed  ## measure how fast everything is, in about five minutes
	python -m benchmarks

bench-check: $(VENV)/installed  ## the same, and fail where a figure misses its target
	python -m benchmarks --check

picture: $(VENV)/installed  ## make the picture in README.md anew; needs a Chromium
	python -m tests.picture

format: $(VENV)/installed  ## put the code into the house format
	ruff check --fix .
	ruff format .

clean:  ## delete what `make install` and the tools made
	rm -rf $(VENV) mutants .mypy_cache .ruff_cache .pytest_cache *.egg-info

.env:
	cp .env.example .env

# A .venv that cannot be used, since it is of an older Python, or was left half made, is made anew.
$(VENV)/installed: pyproject.toml constraints.txt \
		$(if $(shell $(VENV)/bin/python -c "import pip; $(NEW_ENOUGH)" >/dev/null 2>&1 && echo yes),,new-venv)
	@test -w $(VENV) || { echo "$(VENV) must be writable for $$(id -un): delete it, or become its owner." >&2; exit 1; }
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

new-venv:
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "Python must be 3.11 or newer, and there is no $(PYTHON): say make run PYTHON=python3.12, or where it is." >&2; exit 1; }
	@"$(PYTHON)" -c "$(NEW_ENOUGH)" 2>/dev/null || \
		{ echo "Python must be 3.11 or newer, got $$("$(PYTHON)" --version 2>/dev/null || echo "one that fails"): say make run PYTHON=python3.12, or so." >&2; exit 1; }
	@"$(PYTHON)" -c "import venv, ensurepip" 2>/dev/null || \
		{ echo "$(PYTHON) must have venv and pip: install its package, such as python3-venv on Debian and Ubuntu." >&2; exit 1; }
	@test -w . && { test ! -e $(VENV) || test -w $(VENV); } || \
		{ echo "$(VENV) must be writable for $$(id -un), in a folder that is so, too." >&2; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
