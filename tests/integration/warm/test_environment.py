"""What the imports of a warm CLI may know of the environment, and what memory they save."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from runner.cli.command import RUN_VARIABLES, URL_VARIABLE
from runner.cli.process import CliProcess, memory_of
from runner.cli.warm import Template
from runner.settings import VARIABLES
from tests.integration.warm.cli_runs import CliRuns
from tests.project import Project
from tests.stack import ROOT
from tests.waiting import first, wait_for

MB = 1024 * 1024
IMPORTED_MB = 50
READ_BY_SAMPLE: set[str] = set()  # by the imports of the sample CLI
SPY = """
import json, os
kind, read = type(os.environ), set()
original = kind.__getitem__
kind.__getitem__ = lambda environ, name: read.add(name) or original(environ, name)
os.getenv("HOME"), os.environ.get("TERM"), "SHELL" in os.environ
import runner.cli.sample
print(json.dumps(sorted(read)))
"""


@pytest.mark.parametrize("name", RUN_VARIABLES)
def test_a_cli_whose_imports_read_a_variable_of_the_run_starts_cold(
    project: Project, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    runs = CliRuns(project, WARM_CLI_READS=name)

    def is_known() -> bool:
        runs.template.keep()
        return f"it reads {name} while it is imported" in caplog.text

    with caplog.at_level(logging.WARNING):
        wait_for(is_known, 20)
    project.add_task("buy", "traversal:pass")
    assert runs.run("buy", warm=False).traversals
    process, _ = runs.start("buy", warm=True)
    assert (process.wait(20), process.is_warm) == ((0, None), False)
    process.clear()


def test_a_run_in_another_environment_starts_cold(project: Project) -> None:
    runs = CliRuns(project, SHOP="one")
    runs.warm_up()
    project.add_task("buy", "facts")
    for change, warm in ({"SHOP": "one"}, True), ({"SHOP": "two"}, False), ({"SHOP": "one", "NEW": "x"}, False):
        runs.environ |= change
        process, folder = runs.start("buy", warm=True)
        assert (process.wait(20), process.is_warm) == ((0, None), warm)
        process.clear()
        assert f'"SHOP": "{change["SHOP"]}"' in folder.log.read_text()
    runs.template.end()


def test_the_variables_that_the_imports_of_the_sample_cli_read_are_known() -> None:
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    printed = subprocess.run([sys.executable, "-c", SPY], env=environ, capture_output=True, text=True, check=True)
    read = set(json.loads(printed.stdout))
    assert not read & {*RUN_VARIABLES, URL_VARIABLE, *VARIABLES}
    assert read == READ_BY_SAMPLE | {"HOME", "TERM", "SHELL"}  # which the spy has read to show that it sees that


@pytest.fixture
def running(project: Project) -> Iterator[tuple[list[CliProcess], list[CliProcess], list[Template]]]:
    """CLIs that wait, warm and cold, and the templates of the warm ones: so many as there are workers."""
    project.add_task("wait", "note:up wait:go")
    all_runs = [CliRuns(project, WARM_CLI_IMPORT_MB=str(IMPORTED_MB)) for _ in first(range(10), 3)]
    for runs in all_runs:
        runs.warm_up()
    started: dict[bool, list[CliProcess]] = {
        warm: [runs.start("wait", warm=warm)[0] for runs in all_runs] for warm in (True, False)
    }
    notes = project.root / "tasks" / "wait" / "notes"
    wait_for(lambda: notes.exists() and notes.read_text().count("up") == 2 * len(all_runs), 60)
    yield started[True], started[False], [runs.template for runs in all_runs]
    for process in started[True] + started[False]:
        process.end(0)
        process.clear()
    for runs in all_runs:
        runs.template.end()


def test_warm_clis_take_less_memory_than_cold_ones(
    running: tuple[list[CliProcess], list[CliProcess], list[Template]],
) -> None:
    warm, cold = (memory_of(psutil.Process(process.pid) for process in clis) for clis in running[:2])
    templates = memory_of(template.process for template in running[2] if template.process)
    count = len(running[0])
    assert cold / count > IMPORTED_MB * 1_000_000
    assert warm < cold * 0.7
    assert warm + templates < cold * 1.3
