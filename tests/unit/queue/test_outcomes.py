"""How the end of a run is recorded: on the disk, and as a copy in its job."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fakeredis
import msgspec
import pytest

from jobs.queue.job import Job, build_job, make_queue, record_of_job, save_to_job
from jobs.queue.records import (
    change_record,
    close_executed,
    close_interrupted,
    close_run,
    close_unstarted,
    find_folder,
    find_run,
    read_file_record,
    read_record,
    show_record,
    was_moved,
)
from jobs.run.record import Outcome, RunRecord, record_to_json
from jobs.run.state import Reason, RunType, State
from jobs.run.verdict import STOPPED, WORKER_DIED, CliResult
from runner.cli.command import ProcessExit
from runner.errors import NoSuchRun, OwnershipLost, RecordUnreadable
from runner.ids import RunId, TaskId
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder
from tests.project import PASSED, VISIT, Project, traversal_bytes
from tests.unit.run.records import STARTED as BEGUN
from tests.unit.runs import OTHER, full_disk, write_run

RUN, TASK = BEGUN.run_id, BEGUN.task_id
STARTED = msgspec.structs.replace(BEGUN, epoch=1)
ENDED = CliResult(ProcessExit(3, None), last_words="W.")
STAMP = "20261123_080000"


@pytest.fixture
def files(project: Project) -> RunFiles:
    project.add_task(TASK)
    return RunFiles(project.root / "tasks")


@pytest.fixture
def folder(files: RunFiles) -> RunFolder:
    """The folder of a run that is executed."""
    folder = files.folder(TASK, RUN)
    folder.create(record_to_json(STARTED))
    return folder


@pytest.fixture
def job(project: Project, folder: RunFolder) -> Job:
    """Its job."""
    job = build_job(make_queue(fakeredis.FakeRedis(), "bugninja"), STARTED, project.settings())
    job.save()
    return job


def task_folder(folder: RunFolder) -> Path:
    return folder.tasks_root / folder.task_id


def saved(job: Job) -> RunRecord | None:
    return record_of_job(job, refresh=True)


def outcome_of(record: RunRecord | None) -> Outcome:
    assert record is not None
    assert record.outcome is not None
    return record.outcome


def test_the_file_that_a_run_has_adopted_says_how_it_ended(folder: RunFolder, job: Job, files: RunFiles) -> None:
    write_run(task_folder(folder), STAMP, OTHER, traversal_bytes([VISIT, PASSED], "SUCCESSFUL"))
    record = msgspec.structs.replace(STARTED, traversal_id=RunId(OTHER))
    closed = close_executed(folder, record, ENDED, job, files)
    outcome = outcome_of(closed)
    assert (outcome.state, outcome.reason, outcome.exit_code, outcome.signal) == (State.FINISHED, None, 3, None)
    assert (outcome.passed_steps, outcome.failed_steps) == (2, 0)
    assert abs(datetime.now(UTC) - outcome.finished_at) < timedelta(minutes=1)
    assert closed.traversal_id == OTHER
    assert read_record(folder) == saved(job) == closed


def test_a_replay_whose_worker_died_is_judged_as_a_replay(folder: RunFolder, job: Job, files: RunFiles) -> None:
    """Bugninja writes SUCCESSFUL into the file of any replay; how this one ended nobody can say."""
    write_run(task_folder(folder), STAMP, RUN, traversal_bytes([VISIT], "SUCCESSFUL"))
    for run_type, state in ((RunType.REPLAY, State.ERROR), (RunType.AGENTIC, State.FINISHED)):
        folder.write_record(record_to_json(STARTED))
        record = msgspec.structs.replace(STARTED, run_type=run_type)
        closed = close_interrupted(folder, record, WORKER_DIED, job, files)
        assert outcome_of(closed).state is state
        assert saved(job) == closed, "the job knows it, too"


def test_the_job_of_a_run_that_never_started_knows_its_end(folder: RunFolder, job: Job) -> None:
    closed = close_unstarted(folder, STARTED, STOPPED, job)
    outcome = outcome_of(closed)
    assert (outcome.state, outcome.reason, outcome.error_message) == (State.ERROR, Reason.STOPPED, STOPPED.message)
    assert (outcome.passed_steps, outcome.exit_code) == (0, None)
    assert saved(job) == closed


def test_a_full_disk_leaves_the_outcome_to_the_job(
    folder: RunFolder, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunFolder, "write_record", full_disk)
    with pytest.raises(OSError, match="No space left"):
        close_unstarted(folder, STARTED, STOPPED, None)
    closed = close_unstarted(folder, STARTED, STOPPED, job)
    assert outcome_of(closed).reason is Reason.STOPPED
    assert saved(job) == closed
    assert read_record(folder) == STARTED


def test_the_first_outcome_stays_in_the_job_as_well(
    folder: RunFolder, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two close a run while the disk is full; the second has fetched the job before the first did."""
    monkeypatch.setattr(RunFolder, "write_record", full_disk)
    late = Job.fetch(job.id, job.connection, job.serializer)
    closed = close_unstarted(folder, STARTED, STOPPED, job)
    with pytest.raises(OwnershipLost, match=RUN):
        close_unstarted(folder, STARTED, WORKER_DIED, late)
    assert saved(job) == closed


def test_a_job_that_says_something_else_is_no_obstacle(
    folder: RunFolder, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.meta = {"nothing": "of ours"}
    job.save_meta()
    monkeypatch.setattr(RunFolder, "write_record", full_disk)
    assert saved(job) is None
    closed = close_unstarted(folder, STARTED, STOPPED, job)
    assert saved(job) == closed


def test_who_has_lost_a_run_leaves_its_job_alone(folder: RunFolder, job: Job) -> None:
    taken_over = change_record(folder, 1, epoch=2, worker="other")
    save_to_job(job, taken_over)
    with pytest.raises(OwnershipLost, match=RUN):
        close_run(folder, STARTED, Outcome(State.FINISHED, None, None, datetime.now(UTC)), job)
    assert read_record(folder) == saved(job) == taken_over


def test_only_what_changes_is_taken_from_who_closes(folder: RunFolder) -> None:
    change_record(folder, 1, machine="m")
    closed = close_unstarted(folder, STARTED, STOPPED, None)
    assert (closed.machine, read_record(folder)) == ("m", closed)


def test_a_record_of_another_task_goes_on_to_say_so(folder: RunFolder) -> None:
    """Its folder was copied, or renamed."""
    assert not was_moved(folder)
    folder.write_record(record_to_json(STARTED, "original"))
    assert was_moved(folder)
    record = change_record(folder, 1, worker="w")
    assert (record.task_id, read_record(folder), was_moved(folder)) == (TASK, record, True)
    folder.record.write_bytes(b"{")
    assert not was_moved(folder), "nobody can say"
    folder.record.unlink()
    assert not was_moved(folder)


def test_of_two_copies_of_a_run_the_original_is_found(folder: RunFolder, files: RunFiles, project: Project) -> None:
    project.add_task("a-copy")
    copy = files.folder(TaskId("a-copy"), RUN)
    copy.create(folder.record.read_bytes())
    assert find_folder(files, RUN) == folder
    assert find_run(files, RUN) == STARTED
    assert read_record(copy) == msgspec.structs.replace(STARTED, task_id=copy.task_id)


def test_a_run_that_is_nowhere_is_named(folder: RunFolder, files: RunFiles) -> None:
    for find in (find_folder, find_run):
        with pytest.raises(NoSuchRun, match=OTHER):
            find(files, OTHER)
    folder.record.unlink()
    with pytest.raises(NoSuchRun, match=RUN):
        find_run(files, RUN)


@pytest.mark.parametrize(("age", "state"), [(500, State.RUNNING), (700, State.ERROR)])
def test_a_recording_made_by_hand_is_given_up_when_it_is_left_alone(
    folder: RunFolder, files: RunFiles, age: float, state: State
) -> None:
    write_run(task_folder(folder), STAMP, OTHER, traversal_bytes([VISIT]), age)
    other = files.folder(TASK, RunId(OTHER))
    record = read_file_record(files, other)
    assert record is not None
    assert (record.run_id, record.task_id, record.state) == (OTHER, TASK, state)
    assert find_run(files, OTHER) == record
    assert read_file_record(files, folder) is None


def test_a_record_that_cannot_be_read_is_shown_with_the_time_of_its_file(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.record.write_bytes(b"{")
    at = time.time() - 1000
    os.utime(folder.record, (at, at))
    with pytest.raises(RecordUnreadable) as caught:
        read_record(folder)
    place = f"The record of this run, tasks/{TASK}/runs/{RUN}/run.json, cannot be used"

    def shown(problem: str, seconds: float) -> None:
        record = show_record(folder)
        assert record is not None
        assert (record.run_id, record.task_id, record.is_readable) == (RUN, TASK, False)
        assert abs(record.queued_at.timestamp() - seconds) < 1e-3
        assert outcome_of(record).error_message == f"{place}: {problem}."

    shown(caught.value.problem, at)

    def denied(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("runner.project.run_folder.read_if_there", denied)
    shown("it cannot be read (Permission denied)", at)
    folder.record.unlink()
    shown("it cannot be read (Permission denied)", 0)
    monkeypatch.undo()
    assert show_record(folder) is None
