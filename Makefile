# make run    set up, and start the stack         make test   set up, and check everything
# Everything is installed into .venv; nothing else on the machine changes.

PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help run install test mutants prune soak bench bench-check format clean

help:  ## say what can be made
	@sed -n 's/^\([a-z-]*\):.*## /make \1: /p' $(MAKEFILE_LIST)

run: install  ## start Redis, web and worker; Ctrl-C ends them
	@exec honcho start

install: $(VENV)/installed .env  ## make .venv and .env

test: $(VENV)/installed  ## lint, types, and all tests
	ruff check .
	ruff format --check .
	mypy
	pytest -n 4 --dist worksteal

mutants: $(VENV)/installed  ## change FILE=jobs/queue/records.py in many small ways; show which no unit test notices
	python -m pip install --quiet --constraint constraints.txt --editable ".[mutants]"
	python -m tests.mutants $(FILE)

prune: install  ## show which runs RUNS_KEEP_DAYS and RUNS_KEEP would delete; with YES=1, delete them
	@honcho run python -m jobs.prune $(if $(YES),--yes)

soak: $(VENV)/installed  ## kill everything, at random and then at each step, and see that no run is lost
	SOAK_RUNS=300 CROWD_RUNS=5000 pytest -s tests/soak
	LONG=1 pytest -n 4 tests/integration
	CRASH_FACTOR=1 pytest -n 4 tests/crash
	CRASH_ALL=1 pytest -n 4 tests/crash

bench: $(VENV)/installed  ## measure how fast everything is, in about two minutes
	python -m benchmarks

bench-check: $(VENV)/installed  ## the same, and fail where a figure misses its target
	python -m benchmarks --check

format: $(VENV)/installed  ## put the code into the house format
	ruff check --fix .
	ruff format .

clean:  ## delete what `make install` and the tools made
	rm -rf $(VENV) mutants .mypy_cache .ruff_cache .pytest_cache *.egg-info

.env:
	cp .env.example .env

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
