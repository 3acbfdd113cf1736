"""The words for where a run stands, and for what kind of run it is."""

from enum import Enum, StrEnum


class State(StrEnum):
    """Where a run stands. The front end polls until it reads one of the last three."""

    PENDING = "PENDING"  #: accepted, not started
    RUNNING = "RUNNING"  #: a worker executes it
    FINISHED = "FINISHED"  #: the test ran and passed
    FAILED = "FAILED"  #: the test ran and found a fault
    ERROR = "ERROR"  #: the test could not be run to its end

    @property
    def is_final(self) -> bool:
        """Whether the run is over: such a state never changes."""
        return self in (State.FINISHED, State.FAILED, State.ERROR)

    @property
    def is_failure(self) -> bool:
        """Whether the run is over and did not pass."""
        return self in (State.FAILED, State.ERROR)


class Reason(StrEnum):
    """Why a run is FAILED or ERROR."""

    TEST_FAILED = "test_failed"  #: the test ran and found a fault
    NO_RESULT = "no_result"  #: the CLI ended without a result
    CLI_ERROR = "cli_error"  #: the CLI failed: exit code, signal, or nothing usable written
    TIMEOUT = "timeout"  #: it ran longer than RUN_TIMEOUT, or was idle for RUN_IDLE_TIMEOUT
    MEMORY = "memory"  #: its processes took more than RUN_MEMORY_MB
    STOPPED = "stopped"  #: a user stopped it
    INTERRUPTED = "interrupted"  #: the stack was shut down, or the worker died
    LOST = "lost"  #: no record of it is left, or its recording was never completed


class RunType(StrEnum):
    """How a run is made."""

    AGENTIC = "AGENTIC"  #: by the agent
    REPLAY = "REPLAY"  #: by the steps of an earlier run
    REPLAY_WITH_HEALING = "REPLAY_WITH_HEALING"  #: the same; the agent repairs steps that no longer work

    @property
    def is_replay(self) -> bool:
        """Whether it repeats an earlier run."""
        return self is not RunType.AGENTIC

    @property
    def heals(self) -> bool:
        """Whether the agent may repair steps."""
        return self is RunType.REPLAY_WITH_HEALING


class Origin(StrEnum):
    """How a run was started."""

    WEB_UI = "WEB_UI"  #: by a REST call
    CLI = "CLI"  #: by hand, with the CLI


class Trigger(StrEnum):
    """What a run was started by."""

    API = "api"  #: a REST call
    UI = "ui"  #: a person, on a page
    BATCH = "batch"  #: as one run of a batch
    RERUN = "rerun"  #: the REST call that repeats a run
    CLI = "cli"  #: a person, by hand


class JobState(Enum):
    """Where the RQ job of a run stands."""

    UNKNOWN = "Redis did not answer"
    ABSENT = "Redis has no such job"
    WAITING = "in the queue, or behind other runs of its task"
    STARTED = "a worker has it"
    ENDED = "its function returned, or its work-horse failed"
    CANCELED = "it was cancelled or stopped"
