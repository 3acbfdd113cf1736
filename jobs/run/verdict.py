"""How the CLI ended + what it wrote -> the state of the run. Pure: the rules of truth, in one place."""

import re
from typing import NamedTuple

from jobs.run.document import Reason, State
from runner.cli.command import ProcessEnd
from runner.project.run_files import Reading
from runner.project.traversal import Traversal

REPLAY_PASSED = "Replay Success"  # titles of Bugninja's panels, seen in 0.1.6
REPLAY_FAILED = "Replay Failed"
FAILED_ACTION = re.compile(r"\bAction '\w+' failed")
ERROR_TITLE = re.compile(r"error|fail|not found|invalid|no replay", re.IGNORECASE)
NO_WORDS = "It printed nothing that says why."


class Cut(NamedTuple):
    """Why we ended a CLI that had not ended by itself, and the same as a sentence for a person."""

    reason: Reason
    because: str


STOPPED = Cut(Reason.STOPPED, "The run was stopped by a user.")
SHUT_DOWN = Cut(Reason.INTERRUPTED, "The run was interrupted because its worker was shut down.")
WORKER_DIED = Cut(Reason.INTERRUPTED, "The run was interrupted: the worker that carried it out died.")
HORSE_DIED = Cut(Reason.INTERRUPTED, "The run was interrupted: the process that carried it out was ended.")


def too_long(limit: int) -> Cut:
    """A run that took longer than so many seconds."""
    return Cut(Reason.TIMEOUT, f"The run took longer than {limit} seconds (RUN_TIMEOUT) and was ended.")


def idle(limit: int) -> Cut:
    """A run that did nothing for so many seconds."""
    said = f"The run made no step and printed nothing for {limit} seconds (RUN_IDLE_TIMEOUT) and was ended."
    return Cut(Reason.TIMEOUT, said)


class Ending(NamedTuple):
    """How the CLI of a run ended.

    `cut` is why we ended it (None if it ended by itself), `not_started` why it could not be started (then there is no
    `end`), `words` its own last words. For a replay, `replay_said` is the title of the last panel that it printed.
    """

    end: ProcessEnd | None
    cut: Cut | None
    not_started: str | None = None
    words: str | None = None
    replay_said: str | None = None
    is_replay: bool = False


class Verdict(NamedTuple):
    """A final state, with its reason and one or two sentences for a person."""

    state: State
    reason: Reason | None
    message: str | None


def result_of(traversal: Traversal | None) -> State | None:
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


def replay_result(said: str, words: str | None, traversal: Traversal | None, by_file: State | None) -> State | None:
    """How a replay ended, by its last panel: Bugninja 0.1.6 writes SUCCESSFUL into the file of a replay that failed.

    `main` of 0.1.6 writes no file at all for a replay without healing. A replay that failed before its first action
    never ran the test, so it has no result.
    """
    if said == REPLAY_PASSED:
        return State.FINISHED
    if said == REPLAY_FAILED:
        acted = bool(traversal and traversal.actions) or FAILED_ACTION.search(words or "")
        return State.FAILED if acted else None
    return None if ERROR_TITLE.search(said) else by_file


def judge(ending: Ending, reading: Reading) -> Verdict:
    """The final state of a run that a worker has carried out."""
    result = result_of(reading.traversal) if reading.problem is None else None
    if ending.replay_said is not None and ending.cut is None:
        result = replay_result(ending.replay_said, ending.words, reading.traversal, result)
    if ending.is_replay and ending.cut is not None and result is State.FINISHED:
        result = None  # 0.1.6 writes SUCCESSFUL for any replay, and this one could not say how it ended
    if result is State.FINISHED:
        return Verdict(State.FINISHED, None, _note(ending))
    if result is State.FAILED:
        said = ending.words if ending.replay_said is not None else None
        return Verdict(State.FAILED, Reason.TEST_FAILED, said or _fault(reading.traversal, ending.words))
    if ending.cut is not None:
        return Verdict(State.ERROR, ending.cut.reason, ending.cut.because)
    if ending.not_started is not None:
        return Verdict(State.ERROR, Reason.CLI_ERROR, ending.not_started)
    return _without_result(ending, reading)


def cut_off(cut: Cut) -> Verdict:
    """The final state of a run that never began."""
    return Verdict(State.ERROR, cut.reason, cut.because)


def judge_file(traversal: Traversal | None, problem: str | None, abandoned: bool) -> Verdict | None:
    """The state of a run that only its file knows of; None while the file is being written (not `abandoned`)."""
    result = result_of(traversal)
    if result is State.FINISHED:
        return Verdict(State.FINISHED, None, None)
    if result is State.FAILED:
        return Verdict(State.FAILED, Reason.TEST_FAILED, _fault(traversal, None))
    if traversal is not None and traversal.status == "FAILED":
        return Verdict(State.ERROR, Reason.CLI_ERROR, "The test could not be started; see what the CLI printed.")
    if not abandoned:
        return None
    said = f"its file cannot be used ({problem})" if problem else "its file was never completed"
    return Verdict(State.ERROR, Reason.LOST, f"Nobody is carrying out this run any more, and {said}.")


def _without_result(ending: Ending, reading: Reading) -> Verdict:
    words = _words(ending.words)
    if ending.end is not None and ending.end.signal is not None:
        return Verdict(State.ERROR, Reason.CLI_ERROR, f"The CLI was ended by {ending.end.signal}. {words}")
    if ending.end is not None and ending.end.exit_code:
        return Verdict(State.ERROR, Reason.CLI_ERROR, f"The CLI ended with exit code {ending.end.exit_code}. {words}")
    if reading.problem is not None:
        message = f"The CLI ended, and its traversal file cannot be used: {reading.problem}. {words}"
        return Verdict(State.ERROR, Reason.CLI_ERROR, message)
    if reading.traversal is None:
        return Verdict(State.ERROR, Reason.CLI_ERROR, f"The CLI ended without writing a traversal. {words}")
    if ending.replay_said is not None:
        return Verdict(State.ERROR, Reason.CLI_ERROR, f"The replay could not be carried out. {words}")
    if reading.traversal.status == "FAILED":
        return Verdict(State.ERROR, Reason.CLI_ERROR, f"The CLI could not start the test. {words}")
    steps = len(reading.traversal.actions)
    said = f" It said: {ending.words}" if ending.words else ""
    message = f"The CLI ended after {steps} actions without saying that the test is done.{said}"
    return Verdict(State.ERROR, Reason.NO_RESULT, message)


def _fault(traversal: Traversal | None, words: str | None) -> str:
    said = traversal.verdict_text if traversal else None
    return said or words or "The test found a fault; the CLI did not say which."


def _note(ending: Ending) -> str | None:
    """What is worth saying about a test that passed."""
    if ending.cut is not None:
        return f"The test had passed, but its CLI did not end by itself ({ending.cut.reason.value})."
    if ending.end is not None and ending.end.signal is not None:
        return f"The test passed, but its CLI was ended by {ending.end.signal} afterwards."
    if ending.end is not None and ending.end.exit_code:
        return f"The test passed, but its CLI ended with exit code {ending.end.exit_code} afterwards."
    return None


def _words(words: str | None) -> str:
    return f"It said: {words}" if words else NO_WORDS
