"""How the CLI ended and what it wrote decide the state."""

import json
from typing import Any

import pytest

from jobs.run.state import Reason, State
from jobs.run.verdict import (
    SHUT_DOWN,
    STOPPED,
    WORKER_DIED,
    CliResult,
    Interruption,
    idle_timeout_exceeded,
    judge,
    judge_file,
    memory_limit_exceeded,
    run_timeout_exceeded,
    state_by_file,
)
from runner.cli.command import ProcessExit
from runner.project.traversal import NOTHING_YET, Reading, Traversal, parse_traversal
from tests.project import FAULT, PASSED, VISIT, make_traversal


def reading(*args: Any, problem: str | None = None, **kwargs: Any) -> Reading:
    return Reading(parse_traversal(json.dumps(make_traversal(*args, **kwargs)).encode()), problem, 1.0)


def cli_result(
    code: int | None = 0, signal: str | None = None, interruption: Interruption | None = None, words: str | None = "W."
) -> CliResult:
    return CliResult(ProcessExit(code, signal), interruption, last_words=words)


OK = cli_result()


HALF = reading([VISIT], problem="it is not whole JSON")


NOT_STARTED = CliResult(None, start_error="The command 'x' could not be started: no such program.")


TABLE = [
    # what the test is about, how the CLI ended, what it wrote, state, reason, words of the message
    ("passed", OK, reading([VISIT, PASSED], "SUCCESSFUL"), "FINISHED", None, None),
    ("a replay that passed has no done", OK, reading([VISIT], "SUCCESSFUL"), "FINISHED", None, None),
    ("a file without status, done", OK, reading([VISIT, PASSED], None), "FINISHED", None, None),
    ("a done without success means success", OK, reading([("done", {"text": "x"})], None), "FINISHED", None, None),
    ("done, but the status was never written", OK, reading([PASSED], "PENDING"), "FINISHED", None, None),
    ("passed, then exit 1", cli_result(1), reading([PASSED], "SUCCESSFUL"), "FINISHED", None, "exit code 1 afterwards"),
    ("passed, then a signal", cli_result(None, "SIGSEGV"), reading([PASSED], "SUCCESSFUL"), "FINISHED", None, "SIGSEGV"),
    ("passed, then nobody knows", cli_result(None), reading([PASSED], "SUCCESSFUL"), "FINISHED", None, None),
    ("half, then nobody knows", cli_result(None), reading([VISIT], "PENDING"), "ERROR", "cli_error", "how is not known"),
    ("nothing, then nobody knows", cli_result(None), NOTHING_YET, "ERROR", "cli_error", "was killed. It said: W."),
    ("passed, then hung", cli_result(None, "SIGKILL", run_timeout_exceeded(60)), reading([PASSED], "SUCCESSFUL"), "FINISHED", None, "timeout"),
    ("passed, then its worker died", CliResult(None, WORKER_DIED), reading([PASSED], "SUCCESSFUL"), "FINISHED", None, "interrupted"),
    ("failed, then its worker died", CliResult(None, WORKER_DIED), reading([FAULT], "FAILED"), "FAILED", "test_failed", "cart"),
    ("a replay that was interrupted", CliResult(None, WORKER_DIED, is_replay=True), reading([VISIT], "SUCCESSFUL"), "ERROR", "interrupted", "died"),
    ("failed by done", OK, reading([VISIT, FAULT], "FAILED"), "FAILED", "test_failed", "The cart is empty"),
    ("failed by done, no status", OK, reading([VISIT, FAULT], None), "FAILED", "test_failed", "The cart is empty"),
    ("done without success beats the status", OK, reading([FAULT], "SUCCESSFUL"), "FAILED", "test_failed", "cart"),
    ("FAILED with actions, no done", OK, reading([VISIT], "FAILED"), "FAILED", "test_failed", "W."),
    ("FAILED with actions, nothing said", cli_result(words=None), reading([VISIT], "FAILED"), "FAILED", "test_failed", "did not say"),
    ("FAILED, then exit 1", cli_result(1), reading([VISIT], "FAILED"), "FAILED", "test_failed", "W."),
    ("FAILED without actions", OK, reading([], "FAILED"), "ERROR", "cli_error", "could not start the test. It said: W."),
    ("no done at the end", OK, reading([VISIT], "PENDING"), "ERROR", "no_result", "after 1 actions without saying"),
    ("no done, no status", OK, reading([VISIT], None), "ERROR", "no_result", "after 1 actions"),
    ("nothing written", OK, NOTHING_YET, "ERROR", "cli_error", "without writing a traversal. It said: W."),
    ("nothing written, nothing said", cli_result(words=None), NOTHING_YET, "ERROR", "cli_error", "It printed nothing"),
    ("exit 1", cli_result(1), NOTHING_YET, "ERROR", "cli_error", "exit code 1. It said: W."),
    ("exit 1 in the middle", cli_result(1), reading([VISIT], "PENDING"), "ERROR", "cli_error", "exit code 1"),
    ("a signal in the middle", cli_result(None, "SIGKILL"), reading([VISIT], "PENDING"), "ERROR", "cli_error", "by SIGKILL"),
    ("half a file", OK, HALF, "ERROR", "cli_error", "cannot be used: it is not whole JSON"),
    ("half a file that once had passed", OK, reading([PASSED], "SUCCESSFUL", problem="bad"), "ERROR", "cli_error", "bad"),
    ("a command that does not exist", NOT_STARTED, NOTHING_YET, "ERROR", "cli_error", "no such program"),
    ("timeout", cli_result(None, "SIGTERM", run_timeout_exceeded(60)), reading([VISIT]), "ERROR", "timeout", "longer than 60 seconds"),
    ("idle", cli_result(None, "SIGTERM", idle_timeout_exceeded(30)), reading([VISIT]), "ERROR", "timeout", "printed nothing for 30 seconds"),
    ("memory", cli_result(None, "SIGTERM", memory_limit_exceeded(71, 70)), reading([VISIT]), "ERROR", "memory", "used 71 MB of memory, more than the 70 MB"),
    ("passed, then took too much", cli_result(None, "SIGTERM", memory_limit_exceeded(71, 70)), reading([PASSED], "SUCCESSFUL"), "FINISHED", None, "memory"),
    ("stopped", cli_result(None, "SIGTERM", STOPPED), reading([VISIT]), "ERROR", "stopped", "by a user"),
    ("interrupted", cli_result(None, "SIGTERM", SHUT_DOWN), NOTHING_YET, "ERROR", "interrupted", "shut down"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("end", "written", "state", "reason", "words"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_a_run_ends_in_the_state_that_is_true(
    end: CliResult, written: Reading, state: str, reason: str | None, words: str | None
) -> None:
    verdict = judge(end, written)
    assert (verdict.state, verdict.reason) == (state, reason)
    assert (verdict.message is None) if words is None else (verdict.message is not None and words in verdict.message)


@pytest.mark.parametrize(
    ("written", "abandoned", "state", "reason"),
    [
        (reading([PASSED], "SUCCESSFUL"), True, "FINISHED", None),
        (reading([PASSED], None), False, "FINISHED", None),
        (reading([FAULT], "FAILED"), True, "FAILED", "test_failed"),
        (reading([], "FAILED"), False, "ERROR", "cli_error"),
        (reading([VISIT], "PENDING"), True, "ERROR", "lost"),
        (reading([VISIT], None), True, "ERROR", "lost"),
        (HALF, True, "ERROR", "lost"),
    ],
)
def test_without_a_job_the_file_alone_decides(
    written: Reading, abandoned: bool, state: str, reason: str | None
) -> None:
    assert isinstance(written.traversal, Traversal)
    verdict = judge_file(written.traversal, written.problem, abandoned)
    assert verdict is not None
    assert (verdict.state, verdict.reason) == (state, reason)


def test_a_file_that_is_being_written_has_no_verdict_yet() -> None:
    traversal = reading([VISIT], "PENDING").traversal
    assert traversal is not None
    assert judge_file(traversal, None, abandoned=False) is None


def test_every_reason_that_a_worker_can_give_is_in_the_table() -> None:
    assert {row[4] for row in TABLE} == {None, *(reason.value for reason in Reason if reason is not Reason.LOST)}
    assert {row[3] for row in TABLE} == {State.FINISHED, State.FAILED, State.ERROR}
    assert state_by_file(None) is None
