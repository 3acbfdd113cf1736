"""The run document: what a client is answered about a run. Its fields are the ones that the front end reads."""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from runner.project.task import Browser
from runner.project.traversal import Parameter


class State(StrEnum):
    """Where a run stands. The front end polls until it reads one of the last three."""

    PENDING = "PENDING"  # accepted, not started
    RUNNING = "RUNNING"  # a worker has it
    FINISHED = "FINISHED"  # the test ran and passed
    FAILED = "FAILED"  # the test ran and found a fault
    ERROR = "ERROR"  # the test could not be run to its end


FINAL = (State.FINISHED, State.FAILED, State.ERROR)


class Reason(StrEnum):
    """Why a run is FAILED or ERROR."""

    TEST_FAILED = "test_failed"  # the test ran and found a fault
    NO_RESULT = "no_result"  # the CLI ended without saying that it is done
    CLI_ERROR = "cli_error"  # the CLI failed: exit code, signal, or nothing usable written
    TIMEOUT = "timeout"  # it ran longer than RUN_TIMEOUT
    STOPPED = "stopped"  # a user stopped it
    INTERRUPTED = "interrupted"  # the stack was shut down or the worker died
    LOST = "lost"  # nobody knows it any more


class RunType(StrEnum):
    """What kind of run it is."""

    AGENTIC = "AGENTIC"  # the agent finds its way
    REPLAY = "REPLAY"  # the steps of an earlier run again
    REPLAY_WITH_HEALING = "REPLAY_WITH_HEALING"  # the same, and the agent repairs steps that no longer work


class Origin(StrEnum):
    """Who started it."""

    WEB_UI = "WEB_UI"  # a REST call
    CLI = "CLI"  # a person, with the CLI by hand


class TestCase(Struct, frozen=True):
    """The task, as it was when the run was accepted."""

    id: str
    test_name: str
    test_description: str
    test_goal: str


class BrowserConfig(Struct, frozen=True):
    """The browser configuration, as it was when the run was accepted."""

    id: str
    browser_config: Browser


class DomElement(Struct, frozen=True):
    """The element that an action was about."""

    xpath: str | None


class HistoryElement(Struct, frozen=True):
    """One action. `action` has one key, Bugninja's name for it; `screenshot` is a path below this server's root."""

    id: str
    history_element_state: str
    action: dict[str, dict[str, Parameter]]
    screenshot: str | None
    dom_element_data: DomElement | None


class BrainStateDocument(Struct, frozen=True):
    """One step: what the agent thought, and the actions that followed."""

    id: str
    evaluation_previous_goal: str
    memory: str
    next_goal: str
    history_elements: list[HistoryElement]


class Failure(Struct, frozen=True):
    """What broke, for a run that is FAILED or ERROR: where it was (null where it never got there), and what was said.

    `step` counts brain states from 1, `log_tail` has at most 20 lines of what the CLI printed.
    """

    step: int | None
    action: str | None
    goal: str | None
    message: str | None
    url: str | None
    screenshot: str | None
    log_tail: list[str]
    exit_code: int | None
    signal: str | None


class Progress(Struct, frozen=True):
    """How far a run has come: its steps so far, what it is about now, and when that was written."""

    steps: int
    last_goal: str | None
    updated_at: datetime | None


class QueuePlace(Struct, frozen=True):
    """Why a PENDING run waits: its place (1 is next), behind a run of the same task, or (null) for a free worker."""

    position: int
    waiting_for: str | None


class RunItem(Struct, frozen=True):
    """A run in a list. Times are UTC, `duration` is seconds; a step is a brain state of the run document."""

    id: str
    test_case: TestCase
    current_state: State
    reason: Reason | None
    queued_at: datetime
    started_at: datetime
    finished_at: datetime | None
    duration: float | None
    passed_steps: int
    failed_steps: int
    total_steps: int
    run_type: RunType
    origin: Origin
    run_gif: None
    browser_config: BrowserConfig | None


class RunDocument(Struct, frozen=True):
    """A run. Times are UTC, `duration` is seconds.

    `reason` and `failure` are null unless the state is FAILED or ERROR; a FINISHED run may have a note as its
    `error_message`. `traversal_id` is the ID in the name of the run's file (null as long as there is none), and
    `adopted` says that it is not the run's own, since the CLI did not keep it. `queue` is null unless PENDING.
    `stopping` says that somebody has asked for its end, `stale` that Redis does not answer, so that this is only what
    the disk knows.
    """

    id: str
    test_traversal_id: str
    traversal_id: str | None
    adopted: bool
    original_run_id: str | None
    test_case: TestCase | None
    current_state: State
    reason: Reason | None
    error_message: str | None
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    duration: float | None
    run_type: RunType
    origin: Origin
    run_gif: str | None
    browser_config: BrowserConfig | None
    queue: QueuePlace | None
    stopping: bool
    stale: bool
    progress: Progress
    failure: Failure | None
    brain_states: list[BrainStateDocument]
