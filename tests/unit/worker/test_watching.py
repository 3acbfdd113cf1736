"""What a work-horse does while the CLI runs."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs.queue.job import Job
from jobs.queue.records import change_record, read_record
from jobs.run.record import RunRecord, record_to_json
from jobs.run.state import Reason, State
from jobs.worker import execution as module
from jobs.worker.execution import MB, SHUTDOWN_GRACE, TICK
from runner.cli.command import ProcessExit
from runner.errors import OwnershipLost
from runner.project.run_folder import RunFolder
from tests.project import PASSED, VISIT
from tests.unit.runs import OTHER, full_disk
from tests.unit.worker.watched import STARTED, Cli, Watched, nothing


def reason_of(record: RunRecord) -> Reason | None:
    assert record.outcome is not None
    return record.outcome.reason


def test_a_cli_that_ends_by_itself_is_watched_until_then(run: Watched) -> None:
    record = run.run(nothing, run.writes(STARTED.run_id, [VISIT, PASSED], "SUCCESSFUL"), nothing)
    assert (record.state, record.traversal_id) == (State.FINISHED, STARTED.run_id)
    assert (run.cli.waits, run.cli.graces, run.cli.cleared) == ({TICK}, [], 1)
    assert read_record(run.folder) == run.kept() == record


@pytest.mark.parametrize(("grace", "left"), [("10", SHUTDOWN_GRACE), ("1", 1.0)])
def test_at_shutdown_the_cli_has_its_grace_but_no_longer_than_there_is_time(
    run: Watched, grace: str, left: float
) -> None:
    record = run.run(lambda: setattr(run.shutdown, "is_set", True), STOP_GRACE=grace)
    assert (reason_of(record), run.cli.graces) == (Reason.INTERRUPTED, [left])


def test_a_stop_at_shutdown_is_a_stop_and_has_no_more_time(run: Watched) -> None:
    run.folder.request_stop()
    run.shutdown.is_set = True
    assert (reason_of(run.run(nothing)), run.cli.graces) == (Reason.STOPPED, [SHUTDOWN_GRACE])


def test_a_stop_leaves_the_cli_its_whole_grace(run: Watched) -> None:
    record = run.run(nothing, run.folder.request_stop)
    assert (reason_of(record), run.cli.graces, run.cli.cleared) == (Reason.STOPPED, [10.0], 1)


def test_a_worker_that_is_gone_ends_the_cli(run: Watched) -> None:
    run.worker_pid = os.getppid()
    assert reason_of(run.run(nothing)) is not Reason.INTERRUPTED, "it is the parent of this process"
    run.folder.write_record(record_to_json(STARTED))
    run.worker_pid = -1
    assert (reason_of(run.run(nothing)), run.cli.graces) == (Reason.INTERRUPTED, [SHUTDOWN_GRACE])


def test_a_quiet_run_ends_only_where_there_is_a_limit(run: Watched) -> None:
    quiet = [nothing, run.later(9), run.later(2), nothing]
    assert reason_of(run.run(*quiet, RUN_IDLE_TIMEOUT="10")) is Reason.TIMEOUT
    assert run.cli.graces == [10.0]
    run.folder.write_record(record_to_json(STARTED))
    run.run(*quiet, run.later(88), nothing, RUN_IDLE_TIMEOUT="0")
    assert run.cli.graces == []


def test_what_is_printed_or_recorded_is_activity(run: Watched) -> None:
    steps = [run.later(9), lambda: run.cli.print(), run.later(9), run.writes(STARTED.run_id, [VISIT]), run.later(9)]
    run.run(*steps, RUN_IDLE_TIMEOUT="10")
    assert run.cli.graces == []


def test_a_run_ends_after_its_time(run: Watched) -> None:
    run.run(run.later(100), nothing)
    assert run.cli.graces == [], "not before"
    run.folder.write_record(record_to_json(STARTED))
    assert reason_of(run.run(run.later(101))) is Reason.TIMEOUT


def test_a_run_that_takes_too_much_memory_is_ended_like_one_that_takes_too_long(run: Watched) -> None:
    def grow() -> None:
        run.cli.bytes = 70 * MB + 1
        run.now += 1

    record = run.run(grow, RUN_MEMORY_MB="70")
    assert (reason_of(record), run.cli.graces) == (Reason.MEMORY, [10.0])
    run.folder.write_record(record_to_json(STARTED))
    run.run(grow, nothing)
    assert (run.cli.graces, run.cli.measured) == ([], 0), "without a limit nothing is measured"


def test_a_test_that_had_passed_before_it_took_too_much_has_passed(run: Watched) -> None:
    def grow() -> None:
        run.cli.bytes = 70 * MB + 1
        run.now += 1

    record = run.run(run.writes(STARTED.run_id, [VISIT, PASSED], "SUCCESSFUL"), grow, RUN_MEMORY_MB="70")
    assert (record.state, run.cli.graces) == (State.FINISHED, [10.0])


@pytest.mark.parametrize(
    "lose",
    [
        lambda folder: change_record(folder, 1, epoch=2),
        lambda folder: folder.remove(),
        lambda folder: folder.record.write_bytes(b"{"),
    ],
)
def test_a_run_that_is_lost_is_ended_at_once(run: Watched, lose: Callable[[RunFolder], object]) -> None:
    with pytest.raises(OwnershipLost, match=STARTED.run_id):
        run.run(nothing, lambda: lose(run.folder), nothing)
    assert (run.cli.graces, run.cli.cleared, len(run.cli.steps)) == ([0], 1, 1)


def test_a_record_that_has_not_changed_is_not_read_again(run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[RunFolder] = []

    def read(folder: RunFolder) -> RunRecord | None:
        reads.append(folder)
        return read_record(folder)

    monkeypatch.setattr(module, "read_record", read)
    run.run(nothing, nothing, nothing, lambda: change_record(run.folder, 1, machine="m"), nothing, nothing)
    assert reads == [run.folder] * 3, "before it starts, when its start is recorded, and after the change"


def test_a_file_that_the_log_names_is_recorded_while_the_cli_runs(run: Watched) -> None:
    seen: list[tuple[RunRecord | None, RunRecord | None]] = []

    def name() -> None:
        run.folder.log.write_bytes(OTHER.encode())
        run.writes(OTHER, [VISIT])()

    def look() -> None:
        seen.append((read_record(run.folder), run.kept()))

    record = run.run(look, name, look, look)
    assert [on_disk and on_disk.traversal_id for on_disk, _ in seen] == [None, OTHER, OTHER]
    assert seen[1] == seen[2]
    adopted, kept = seen[1]
    assert adopted == kept
    assert adopted is not None
    assert (record.traversal_id, record.epoch) == (OTHER, 1)


@pytest.mark.parametrize("end", [ProcessExit(0, None), ProcessExit(3, None)])
def test_a_file_that_nobody_names_is_the_runs_after_a_success_only(run: Watched, end: ProcessExit) -> None:
    record = run.run(run.writes(OTHER, [VISIT, PASSED], "SUCCESSFUL"), nothing, end=end)
    assert (record.traversal_id, record.state) == (
        (OTHER, State.FINISHED) if not end.exit_code else (None, State.ERROR)
    )


def test_a_run_that_was_interrupted_gets_no_file_that_nobody_names(
    run: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cli, "end", lambda *_: ProcessExit(0, None))
    run.writes(OTHER, [PASSED], "SUCCESSFUL")
    assert run.run(run.writes(OTHER, [PASSED]), run.folder.request_stop).traversal_id is None


def test_a_job_that_redis_lost_is_put_back_within_seconds(run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[bool] = []

    def lose() -> None:
        run.redis.flushall()
        run.now += 1

    def look() -> None:
        states.append(run.kept() is not None)
        run.now += 1

    monkeypatch.setattr(module, "JOB_CHECK_SECONDS", 3.0)
    run.run(nothing, lose, look, look, look, look)
    assert states == [False, False, True, True], "it is asked for every three seconds, not at each tick"


@pytest.mark.parametrize("fault", [RedisConnectionError("away"), OSError(28, "No space left on device")])
def test_no_fault_of_redis_or_the_disk_ends_a_run(
    run: Watched, fault: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(module, "restore_if_lost", fail)
    if isinstance(fault, OSError):
        monkeypatch.setattr("jobs.worker.adopt.adopt", full_disk)
    record = run.run(run.writes(OTHER, [VISIT, PASSED]), nothing)
    assert (record.outcome is not None, run.cli.graces) == (True, [])
    assert "event=housekeeping_failed" in caplog.text


def test_redis_is_not_waited_for_long_while_the_cli_runs(run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Any] = []

    def restore(job: Job) -> bool:
        used.append(job.connection)
        return True

    monkeypatch.setattr(module, "restore_if_lost", restore)
    run.run(nothing)
    (connection,) = {*used}
    assert connection is not run.redis
    assert connection.connection_pool.connection_kwargs["socket_timeout"] == module.REDIS_SECONDS
