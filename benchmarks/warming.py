"""What a template saves: a CLI with slow imports, warm and cold, in turns; each through a stack of its own."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.client import Client, request_bytes
from benchmarks.running import run_id_of, settle, start_path, wait_over
from benchmarks.site import Site
from benchmarks.table import Figure, median, milliseconds, p95, plain
from runner.cli.command import build_command
from runner.cli.process import memory_of
from runner.cli.warm import Template
from runner.ids import TaskId, new_run_id
from runner.project.run_folder import RunFolder
from runner.redaction import Redactor
from runner.settings import read_settings
from tests.project import Project
from tests.stack import ROOT, Stack, is_template
from tests.waiting import wait_for

COMMAND = "python -m benchmarks.slow {task_id}"
ROUNDS = 5
ENDS = 3
RUNS = 6  # in the queue at once
MB = 1024 * 1024


class Sample(NamedTuple):
    """What one run took, in seconds."""

    first_step: float
    """From its POST to its first action."""
    overhead: float
    """From its POST to its last event, less what the CLI itself did until it began to end."""
    forking: float
    """From its claim by the worker to the start of its CLI."""


class Side:
    """A web process and a worker whose CLIs start warm, or cold, with a task for each run in the queue."""

    def __init__(self, site: Site, switch: str) -> None:
        self.folder, self.is_warm = site.folder / f"warm-{switch}", switch == "on"
        project = Project(self.folder / "project")
        (project.root / "reports").mkdir()
        self.tasks = [f"task_{number}" for number in range(RUNS)]
        for task in self.tasks:
            project.add_task(task)
        own = {"RUNNER_WARM": switch, "RUNNER_COMMAND": COMMAND, "QUEUE_NAME": f"warm-{switch}"}
        self.stack = Stack(project, self.folder, **own, REDIS_URL=site.redis.environ["REDIS_URL"])
        self.stack.line("web")
        self.worker = self.stack.line("worker")

    def wait_ready(self) -> None:
        """Wait until it can take runs, warm if it shall."""
        self.stack.wait_ready()
        if self.is_warm:
            wait_for(lambda: "template_ready" in self.stack.log("worker"), 60, f"the template of {self.folder}")

    def post(self, task: str) -> str:
        """Start a run; returns its ID."""
        with Client(self.stack.port) as client:
            return run_id_of(client.ask(request_bytes(start_path(task), "POST"))[2])

    def measure(self) -> Sample:
        """Execute one run, and nothing else."""
        settle()  # the run before is over, but its work-horse may not be
        began, offset = time.time(), time.time() - time.perf_counter()
        run_id = self.post(self.tasks[0])
        over = wait_over(self.stack.port, run_id) + offset
        report = self.report(run_id)
        timing = self.stack.run(run_id)["timing"]
        assert timing["warm"] is self.is_warm, self.stack.log("worker")
        forking = seconds_of(timing["cli_started_at"]) - seconds_of(timing["claimed_at"])
        return Sample(report["acted"] - began, over - began - (report["ended"] - report["began"]), forking)

    def report(self, run_id: str) -> dict[str, float]:
        return report_of(self.stack.project, run_id)

    def runs_per_minute(self) -> float:
        """How many of a full queue are over in a minute."""
        began = time.perf_counter()
        runs = [self.post(task) for task in self.tasks]
        last = max(wait_over(self.stack.port, run_id) for run_id in runs)
        return 60 * len(runs) / (last - began)

    def memory(self) -> tuple[float, float]:
        """Of the template and of a CLI that it has forked, in MB."""
        shell = psutil.Process(self.worker.pid)
        template = next(process for process in shell.children(recursive=True) if is_template(process))
        run_id = self.post(self.tasks[0])
        child = wait_for(template.children, 10, f"a CLI in {self.folder}", step=0.002)
        used = memory_of([template]) / MB, memory_of(child) / MB
        wait_over(self.stack.port, run_id)
        return used


def warming(site: Site) -> Iterator[Figure]:
    """A CLI whose imports take 2 s: warm starts beside cold ones."""
    with sides(site) as (warm, cold):
        turns = [(warm.measure(), cold.measure()) for _ in range(ROUNDS)]
        ends = [seconds_to_end(site.folder / f"end-{switch}", switch) for switch in ("on", "off")]
        queues = warm.runs_per_minute(), cold.runs_per_minute()
        template, child = warm.memory()
    ours, theirs = zip(*turns, strict=True)
    first, usual = ([sample.first_step for sample in side] for side in (ours, theirs))
    sooner = median(usual) / median(first)
    yield Figure("POST to first action, cold", milliseconds(median(usual)), milliseconds(p95(usual)), 1.0, "x")
    yield Figure(
        "POST to first action, warm",
        milliseconds(median(first)),
        milliseconds(p95(first)),
        sooner,
        "x sooner",
        5.0,
        True,
    )
    overhead = [sample.overhead - ends[0] for sample in ours]
    yield Figure(
        "a warm run beside all that its CLI does",
        milliseconds(median(overhead)),
        milliseconds(p95(overhead)),
        median(overhead) * 1000,
        " ms",
        100.0,
    )
    yield plain("the end of a warm CLI itself", ends[0] * 1000, " ms")
    yield plain("the end of a cold CLI itself", ends[1] * 1000, " ms")
    yield plain("claim to start of the CLI, warm", median([sample.forking for sample in ours]) * 1000, " ms")
    yield plain("runs of one worker, cold", queues[1], " per minute")
    yield plain("runs of one worker, warm", queues[0] / queues[1], "x cold", 2.0, at_least=True)
    yield plain("memory (PSS) of the template", template, " MB")
    yield plain("memory (PSS) of a warm CLI", child, " MB")


def report_of(project: Project, run_id: str) -> dict[str, float]:
    """When the CLI of this run, that is over, did what."""
    report: dict[str, float] = json.loads((project.root / "reports" / run_id).read_text())
    return report


def seconds_to_end(folder: Path, switch: str) -> float:
    """What a CLI takes to end, once it has done everything, with no runner around it."""
    project = Project(folder)
    project.add_task("task")
    (project.root / "reports").mkdir()
    environ = {**os.environ, **project.environ(RUNNER_COMMAND=COMMAND, RUNNER_WARM=switch), "PYTHONPATH": str(ROOT)}
    settings, seconds = read_settings(environ), []
    template = Template(settings, environ, Redactor())
    wait_for(lambda: template.keep() or switch == "off" or template.process, 60, "a template")  # type: ignore[func-returns-value]
    for _ in range(ENDS):
        run = RunFolder(settings.tasks_root, TaskId("task"), new_run_id())
        command = build_command(settings, run, environ)
        process = template.fork(command) or psutil.Popen(command.argv, env={**command.environ}, cwd=command.folder)
        assert process.wait(60) == 0
        seconds.append(time.time() - report_of(project, run.run_id)["ended"])
    template.end()
    return median(seconds)


@contextmanager
def sides(site: Site) -> Iterator[tuple[Side, Side]]:
    """Warm and cold, both ready; ended afterwards."""
    pair = Side(site, "on"), Side(site, "off")
    with closing(pair[0].stack), closing(pair[1].stack):
        for side in pair:
            side.wait_ready()
        yield pair


def seconds_of(text: str) -> float:
    """The time in a document, in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()
