"""How the CLI ended + what it wrote -> the final state of the run. Pure: all rules of truth, in one place."""

import re
from typing import NamedTuple

from jobs.run.state import Reason, State
from runner.cli.command import ProcessExit
from runner.project.traversal import Reading, Traversal

REPLAY_PASSED = "Replay Success"  # titles of Bugninja's panels, seen in 0.1.6
REPLAY_FAILED = "Replay Failed"
FAILED_ACTION = re.compile(r"\bAction '\w+' failed")
ERROR_TITLE = re.compile(r"error|fail|not found|invalid|no replay", re.IGNORECASE)
NO_WORDS = "It printed nothing that says why."
UNKNOWN_EXIT = ProcessExit(None, None)
EXIT_UNKNOWN = "The CLI ended; how is not known, because the process that had started it was killed."


class Interruption(NamedTuple):
    """Why we ended a CLI that had not ended by itself: the reason, and a sentence for a person."""

    reason: Reason
    message: str


STOPPED = Interruption(Reason.STOPPED, "The run was stopped by a user.")
HELD = Interruption(Reason.STOPPED, "The run was not started: enough runs of its batch had failed (fail_fast).")
SHUT_DOWN = Interruption(Reason.INTERRUPTED, "The run was interrupted because its worker was shut down.")
WORKER_DIED = Interruption(Reason.INTERRUPTED, "The run was interrupted: the worker that executed it died.")
MOVED = Interruption(
    Reason.LOST, "The folder of the task was renamed or copied before the run was over; the run ends here."
)
HORSE_DIED = Interruption(Reason.INTERRUPTED, "The run was interrupted: the process that executed it was ended.")


def run_timeout_exceeded(limit: int) -> Interruption:
    """The interruption of a run that took longer than `limit` seconds."""
    return Interruption(Reason.TIMEOUT, f"The run took longer than {limit} seconds (RUN_TIMEOUT) and was ended.")


def idle_timeout_exceeded(limit: int) -> Interruption:
    """The interruption of a run without any activity for `limit` seconds."""
    message = f"The run made no step and printed nothing for {limit} seconds (RUN_IDLE_TIMEOUT) and was ended."
    return Interruption(Reason.TIMEOUT, message)


def memory_limit_exceeded(used: int, limit: int) -> Interruption:
    """The interruption of a run whose processes used so many MB of memory, more than the `limit`."""
    message = f"The run used {used} MB of memory, more than the {limit} MB of RUN_MEMORY_MB, and was ended."
    return Interruption(Reason.MEMORY, message)


class CliResult(NamedTuple):
    """How the CLI of a run ended."""

    exit: ProcessExit | None
    """None if it was never started, or if its worker died before it."""
    interruption: Interruption | None = None
    """Why we ended it; None if it ended by itself."""
    start_error: str | None = None
    """Why it could not be started."""
    last_words: str | None = None
    """Its own words about its failure."""
    replay_title: str | None = None
    """For a replay, the title of the last panel that it printed."""
    is_replay: bool = False


class Verdict(NamedTuple):
    """A state, and for a final one its reason and one or two sentences for a person."""

    state: State
    reason: Reason | None
    message: str | None


def state_by_file(traversal: Traversal | None) -> State | None:
    """FINISHED or FAILED if the traversal says how the test ended, None if it does not.

    A `done` without success beats everything; the status comes next; a file without status, or one that was still
    being recorded, is decided by its `done`. FAILED without any action is no test result: the test never ran.
    """
    if traversal is None:
        return None
    if traversal.success is False or (traversal.status == "FAILED" and traversal.actions):
        return State.FAILED
    if traversal.status == "SUCCESSFUL" or (traversal.status != "FAILED" and traversal.success):
        return State.FINISHED
    return None


def state_by_panel(title: str, words: str | None, traversal: Traversal | None, by_file: State | None) -> State | None:
    """How a replay ended, by its last panel: Bugninja 0.1.6 writes SUCCESSFUL into the file of a replay that failed.

    `main` of 0.1.6 writes no file at all for a replay without healing. A replay that failed before its first action
    never ran the test, so it has no result.
    """
    if title == REPLAY_PASSED:
        return State.FINISHED
    if title == REPLAY_FAILED:
        acted = bool(traversal and traversal.actions) or FAILED_ACTION.search(words or "")
        return State.FAILED if acted else None
    return None if ERROR_TITLE.search(title) else by_file


def judge(result: CliResult, reading: Reading) -> Verdict:
    """The final state of a run that a worker has executed."""
    state = _state_by_evidence(result, reading)
    if state is State.FINISHED:
        return Verdict(State.FINISHED, None, _note(result))
    if state is State.FAILED:
        message = result.last_words if result.replay_title is not None else None
        return Verdict(State.FAILED, Reason.TEST_FAILED, message or _fault(reading.traversal, result.last_words))
    if result.interruption is not None:
        return interrupted_verdict(result.interruption)
    if result.start_error is not None:
        return Verdict(State.ERROR, Reason.CLI_ERROR, result.start_error)
    return _without_result(result, reading)


def _state_by_evidence(result: CliResult, reading: Reading) -> State | None:
    """FINISHED or FAILED if the file, or for a replay its last panel, says so."""
    by_file = state_by_file(reading.traversal) if reading.problem is None else None
    if result.replay_title is not None and result.interruption is None:
        return state_by_panel(result.replay_title, result.last_words, reading.traversal, by_file)
    if result.is_replay and result.interruption is not None and by_file is State.FINISHED:
        return None  # 0.1.6 writes SUCCESSFUL for any replay, and this one could not say how it ended
    return by_file


def interrupted_verdict(interruption: Interruption) -> Verdict:
    """The final state of a run that was interrupted before it had a result."""
    return Verdict(State.ERROR, interruption.reason, interruption.message)


def judge_file(traversal: Traversal | None, problem: str | None, abandoned: bool) -> Verdict | None:
    """The state of a run that only its file knows of; None while the file is being written (not `abandoned`)."""
    state = state_by_file(traversal)
    if state is State.FINISHED:
        return Verdict(State.FINISHED, None, None)
    if state is State.FAILED:
        return Verdict(State.FAILED, Reason.TEST_FAILED, _fault(traversal, None))
    if traversal is not None and traversal.status == "FAILED":
        return Verdict(State.ERROR, Reason.CLI_ERROR, "The test could not be started; see what the CLI printed.")
    if not abandoned:
        return None
    why = f"its file cannot be used ({problem})" if problem else "its file was never completed"
    return Verdict(State.ERROR, Reason.LOST, f"This run is no longer being executed, and {why}.")


def _without_result(result: CliResult, reading: Reading) -> Verdict:
    words = _words(result.last_words)
    if result.exit == UNKNOWN_EXIT:
        return Verdict(State.ERROR, Reason.CLI_ERROR, f"{EXIT_UNKNOWN} {words}")
    if result.exit is not None and result.exit.signal is not None:
        return Verdict(State.ERROR, Reason.CLI_ERROR, f"The CLI was ended by {result.exit.signal}. {words}")
    if result.exit is not None and result.exit.exit_code:
        return Verdict(State.ERROR, Reason.CLI_ERROR, f"The CLI ended with exit code {result.exit.exit_code}. {words}")
    if reading.problem is not None:
        message = f"The CLI ended, and its traversal file cannot be used: {reading.problem}. {words}"
        return Verdict(State.ERROR, Reason.CLI_ERROR, message)
    if reading.traversal is None:
        return Verdict(State.ERROR, Reason.CLI_ERROR, f"The CLI ended without writing a traversal. {words}")
    if result.replay_title is not None:
        return Verdict(State.ERROR, Reason.CLI_ERROR, f"The replay could not be executed. {words}")
    if reading.traversal.status == "FAILED":
        return Verdict(State.ERROR, Reason.CLI_ERROR, f"The CLI could not start the test. {words}")
    steps = len(reading.traversal.actions)
    quoted = f" It said: {result.last_words}" if result.last_words else ""
    message = f"The CLI ended after {steps} actions without saying that the test is done.{quoted}"
    return Verdict(State.ERROR, Reason.NO_RESULT, message)


def _fault(traversal: Traversal | None, words: str | None) -> str:
    verdict_text = traversal.verdict_text if traversal else None
    return verdict_text or words or "The test found a fault; the CLI did not say which."


def _note(result: CliResult) -> str | None:
    """A remark about a test that passed; None if nothing was odd."""
    if result.interruption is not None:
        return f"The test had passed, but its CLI did not end by itself ({result.interruption.reason.value})."
    if result.exit is not None and result.exit.signal is not None:
        return f"The test passed, but its CLI was ended by {result.exit.signal} afterwards."
    if result.exit is not None and result.exit.exit_code:
        return f"The test passed, but its CLI ended with exit code {result.exit.exit_code} afterwards."
    return None


def _words(words: str | None) -> str:
    return f"It said: {words}" if words else NO_WORDS
