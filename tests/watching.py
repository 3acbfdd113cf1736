"""What a test sees of its runs and workers from outside, and for how long."""

import time

from tests.project import Project
from tests.stack import Stack
from tests.waiting import wait_for

WATCHED_SECONDS = 3.0  # for which a state that must not change is watched


def living_workers(stack: Stack) -> object:
    """How many workers `/ready` counts."""
    body = stack.call("GET", "/ready").body
    return body.get("workers") if isinstance(body, dict) else None


def notes(project: Project, task: str) -> list[str]:
    """What the CLIs of the task have noted, in their order: the ID of the run and a word."""
    path = project.root / "tasks" / task / "notes"
    return path.read_text().splitlines() if path.exists() else []


def check_it_stays(stack: Stack, run_id: str, document: dict[str, object], seconds: float = WATCHED_SECONDS) -> None:
    """The run's record and document do not change any more."""
    (path,) = stack.project.root.glob(f"tasks/*/runs/{run_id}/run.json")
    record, until = path.read_bytes(), time.monotonic() + seconds

    def has_time_passed() -> bool:
        assert path.read_bytes() == record
        assert stack.run(run_id) == document
        return time.monotonic() > until

    wait_for(has_time_passed, seconds + 10, step=0.2)
