"""Many runs by the whole stack, warm and cold: they end the same, and leave the same behind."""

import json
import os
import re
from collections import Counter
from typing import Any

import psutil
import pytest

from runner.cli.warm import RUNS as TEMPLATE_RUNS
from tests.integration.warm.cli_runs import AS_MODULE, normal, without
from tests.project import Project
from tests.stack import Stack, is_template
from tests.waiting import wait_for

RUNS = int(os.environ.get("WARM_RUNS", "9"))  # warm, and as many cold
WORKERS = 2
MOST_COLD = 5  # runs that may start while another template imports
TASKS = {
    # what the CLI does: the state and reason of the run
    "passes": ("argv threads traversal:pending traversal:pass", "FINISHED", None),
    "fails": ("fork traversal:fail panel:Execution_Error exits:1", "FAILED", "test_failed"),
    "breaks": ("child traversal:pending raises:it", "ERROR", "cli_error"),
    "says_no": ("leave-child:child says:nothing", "ERROR", "cli_error"),
    "is_killed": ("loop traversal:pending dies:KILL", "ERROR", "cli_error"),
    "passes_and_dies": ("processes:fork traversal:pass dies:SEGV", "FINISHED", None),
    "is_silent": ("logs", "ERROR", "cli_error"),
    "tells": ("facts traversal:pass", "FINISHED", None),
    "gives_up": ("traversal:pending environ", "ERROR", "no_result"),
}
OTHER = re.compile(r'"RUNNER_WARM": "\w+"')  # the only fact in which a warm CLI differs
VARYING = ("id", "test_traversal_id", "traversal_id", "queued_at", "started_at", "finished_at", "duration", "progress")


def end_of(stack: Stack, run_id: str) -> dict[str, Any]:
    """What is known of the run at its end, except for what is its own, with its log and its file."""
    document = stack.wait_final(run_id, 120)
    (log,) = stack.project.root.glob(f"tasks/*/runs/{run_id}/cli.log")
    files = [path.read_text() for path in stack.project.root.glob(f"tasks/*/traversals/*{run_id}.json")]
    assert document["progress"]["steps"] == len(document["brain_states"])
    left = {**without(document, *VARYING, "timing"), "log": OTHER.sub("", log.read_text()), "files": files}
    return dict(json.loads(normal(json.dumps(left), run_id)))


def execute(stack: Stack, *, warm: bool) -> list[dict[str, Any]]:
    """The ends of so many runs, by new workers."""
    stack.environ["RUNNER_WARM"] = "on" if warm else "off"
    workers = [stack.line("worker") for _ in range(WORKERS)]
    ready = stack.log("worker").count("event=template_ready") + WORKERS * warm
    wait_for(lambda: stack.log("worker").count("event=template_ready") == ready, what="templates")
    templates = [
        child.pid for worker in workers for child in psutil.Process(worker.pid).children() if is_template(child)
    ]
    assert len(templates) == WORKERS * warm
    names = [list(TASKS)[number % len(TASKS)] for number in range(RUNS)]
    run_ids = [stack.post(name) for name in names]
    ends = [end_of(stack, run_id) for run_id in run_ids]
    kinds = Counter(stack.run(run_id)["timing"]["warm"] for run_id in run_ids)
    assert kinds[not warm] <= (RUNS // TEMPLATE_RUNS * MOST_COLD if warm else 0)  # while a template is replaced
    for worker in workers:
        worker.terminate()
        assert worker.wait(10) == 0
    assert not [process for process in stack._processes() if is_template(process)]
    return ends


@pytest.mark.timeout(RUNS * 5 + 120)
def test_many_runs_end_the_same_warm_and_cold(project: Project, base: Stack) -> None:
    base.environ |= {"RUNNER_COMMAND": AS_MODULE, "RUNNER_WARM_IMPORTS": "colorsys"}
    for name, (behaviour, *_) in TASKS.items():
        project.add_task(name, behaviour)
    warm, cold = execute(base, warm=True), execute(base, warm=False)
    for name, one, other in zip([*TASKS] * RUNS, warm, cold, strict=False):
        assert one["log"].splitlines() == other["log"].splitlines(), name
        assert one == other, name
        assert (one["current_state"], one["reason"]) == TASKS[name][1:], name
    assert not base.processes_with("BUGNINJA_TASK_ID", "says_no")
