"""Old runs, to be pruned."""

import json
import os
import time
from pathlib import Path

from jobs.retention import Plan, Pruner
from runner.ids import RunId, TaskId
from runner.settings import DAY
from tests.project import PASSED, VISIT, traversal_bytes
from tests.unit.fake_stack import FakeStack

HAND = "h" * 24  # the ID of a run that was made by hand
OLD = "2025-01-01 00:00:00"  # when the other one was over


def files(root: Path) -> set[str]:
    """All files below this folder."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def old_runs(stack: FakeStack, task: str = "buy", hand: str = HAND, behaviour: str = "print:x visit pass") -> str:
    """A task with an old run of ours, whose ID is returned, and one made by hand 90 days ago; both with pictures and
    recordings."""
    folder = stack.project.add_task(task, behaviour)
    ours = str(stack.run(task)["id"])
    path = folder / "traversals" / f"traverse_20250101_080000_{hand}.json"
    path.write_bytes(traversal_bytes([VISIT, PASSED], "SUCCESSFUL"))
    for run_id in (ours, hand):
        for name in (f"screenshots/{run_id}/001.png", f"videos/{run_id}.webm"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"x" * 4000)
    os.utime(path, (time.time() - 90 * DAY, time.time() - 90 * DAY))
    record = folder / "runs" / ours / "run.json"
    document = json.loads(record.read_bytes())
    document["outcome"]["finished_at"] = "2025-01-01T00:00:00Z"
    record.write_text(json.dumps(document))
    projection = stack.services.lists.projection
    projection.tell(RunId(ours))  # nothing else looks for changes of a run that is over
    projection.catch_up()
    return ours


def planned(stack: FakeStack, **settings: str) -> tuple[Pruner, list[Plan]]:
    """What is to be deleted, by default the files of runs that are older than 30 days."""
    pruner = Pruner(stack.project.settings(**(settings or {"RUNS_KEEP_DAYS": "30"})))
    return pruner, pruner.plans(time.time())


def prune(stack: FakeStack, **settings: str) -> set[str]:
    """Do it at once; the IDs of the runs."""
    pruner, plans = planned(stack, **settings)
    return do(stack, pruner, plans)


def do(stack: FakeStack, pruner: Pruner, plans: list[Plan]) -> set[str]:
    """Do this; the IDs of the runs for which it could be done."""
    return {plan.run.run_id for plan in pruner.prune(TaskId("buy"), plans, stack.redis)}
