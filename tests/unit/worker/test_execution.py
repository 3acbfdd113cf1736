"""One run in the hands of a worker: its CLI, its limits, its end."""

import json

import pytest

from jobs.run.verdict import idle_timeout_exceeded, memory_limit_exceeded, run_timeout_exceeded
from jobs.worker.execution import MB, MEMORY_SECONDS, Limits
from tests.project import Project
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import (
    jobs_as_text,
)


def no_memory() -> int:
    raise AssertionError("there is no limit, and measuring takes time")


def test_the_limits_of_a_run_look_at_its_activity(project: Project) -> None:
    limits = Limits(project.settings(RUN_TIMEOUT="100", RUN_IDLE_TIMEOUT="10"), 1000.0)
    assert limits.exceeded(1009.0, "a", no_memory) is None
    assert limits.exceeded(1019.0, "a", no_memory) is None
    assert limits.exceeded(1019.5, "a", no_memory) == idle_timeout_exceeded(10)
    assert limits.exceeded(1020.0, "b", no_memory) is None
    assert limits.exceeded(1100.5, "c", no_memory) == run_timeout_exceeded(100)


def test_without_an_idle_limit_a_quiet_run_goes_on(project: Project) -> None:
    limits = Limits(project.settings(RUN_TIMEOUT="100"), 0.0)
    assert limits.exceeded(99.0, "a", no_memory) is None
    assert limits.exceeded(100.5, "a", no_memory) == run_timeout_exceeded(100)


def test_the_memory_of_a_run_is_measured_once_a_second_and_may_be_as_large_as_the_limit(project: Project) -> None:
    limits = Limits(project.settings(RUN_TIMEOUT="100", RUN_MEMORY_MB="70"), 1000.0)
    used = [70 * MB, 70 * MB + 1, 0]
    assert limits.exceeded(1000.9, "a", no_memory) is None
    assert limits.exceeded(1000.0 + MEMORY_SECONDS, "a", lambda: used[0]) is None
    assert limits.exceeded(1001.9, "a", no_memory) is None
    assert limits.exceeded(1002.0, "a", lambda: used[1]) == memory_limit_exceeded(71, 70)
    assert limits.exceeded(1003.0, "a", lambda: used[2]) is None
    assert limits.exceeded(1100.5, "a", no_memory) == run_timeout_exceeded(100)


def test_the_cli_gets_both_ids_and_prints_into_the_runs_log_only(
    stack: FakeStack, capfd: pytest.CaptureFixture[str]
) -> None:
    stack.project.add_task("buy", "environ pass")
    run_id = stack.post("buy").json()["id"]
    stack.work()
    log = stack.project.root / "tasks" / "buy" / "runs" / run_id / "cli.log"
    printed = json.loads(log.read_text())
    assert (printed["BUGNINJA_RUN_ID"], printed["BUGNINJA_TASK_ID"]) == (run_id, "buy")
    assert log.stat().st_mode & 0o777 == 0o600
    assert "BUGNINJA_RUN_ID" not in "".join(capfd.readouterr())
    assert "'task_id': 'buy'" in jobs_as_text(stack.redis).replace('"', "'")
    assert "BUGNINJA_RUN_ID" not in jobs_as_text(stack.redis)


@pytest.mark.parametrize(
    ("behaviour", "state", "reason"),
    [
        ("visit failed-status panel:Replay_Success", "FINISHED", None),
        ("visit pass panel:Replay_Failed", "FAILED", "test_failed"),  # Bugninja writes SUCCESSFUL all the same
        ("panel:Replay_Failed", "ERROR", "cli_error"),
        ("visit pass panel:Replay_Error", "ERROR", "cli_error"),
        ("panel:Traversal_Not_Found", "ERROR", "cli_error"),
        ("visit pass", "FINISHED", None),
        ("visit fail", "FAILED", "test_failed"),
    ],
)
def test_a_replay_ends_as_its_cli_says(stack: FakeStack, behaviour: str, state: str, reason: str | None) -> None:
    stack.project.add_task("buy", "pass", replay=behaviour)
    stack.run("buy")
    run_id = stack.send("/test-runs/replay/buy/buy_default")["id"]
    stack.work()
    run = stack.get(run_id)
    assert (run["current_state"], run["reason"]) == (state, reason)
    if reason is not None and "panel" in behaviour:
        assert "it broke here" in run["error_message"]
