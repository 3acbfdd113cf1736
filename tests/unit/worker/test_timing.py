"""When the CLI of a run was started and had its first step, and whether it was warm."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from jobs.queue.records import read_record
from jobs.run.record import RunRecord
from jobs.worker import execution as module
from runner.errors import CommandNotStarted
from tests.project import PASSED, VISIT
from tests.unit.worker.watched import STAMP, STARTED, Cli, Watched, nothing


def test_the_times_of_a_run_are_recorded_while_its_cli_runs(run: Watched) -> None:
    seen: list[RunRecord | None] = []
    path = run.task / "traversals" / f"traverse_{STAMP}_{STARTED.run_id}.json"

    def look() -> None:
        seen.append(read_record(run.folder))

    def write_at(seconds: int, *actions: Any) -> Callable[[], None]:
        def write() -> None:
            run.writes(STARTED.run_id, [*actions])()
            os.utime(path, (seconds, seconds))

        return write

    began = datetime.now(UTC)
    steps = (
        nothing,
        look,
        write_at(100),
        nothing,
        look,
        write_at(200, VISIT),
        nothing,
        look,
        write_at(300, VISIT, PASSED),
    )
    final = run.run(*steps, nothing, look)
    assert None not in seen
    started, empty, stepped, later = (record for record in seen if record is not None)
    assert started.cli_started_at is not None
    assert began <= started.cli_started_at <= datetime.now(UTC)
    assert {record.cli_started_at for record in (empty, stepped, later, final)} == {started.cli_started_at}
    assert (started.first_step_at, empty.first_step_at) == (None, None)
    first = datetime.fromtimestamp(200, UTC)
    assert [record.first_step_at for record in (stepped, later, final)] == [first] * 3
    assert (started.warm, final.warm) == (False, False)


def test_the_first_step_of_a_run_that_is_over_before_a_look_is_found_at_its_end(run: Watched) -> None:
    record = run.run(run.writes(STARTED.run_id, [VISIT, PASSED], "SUCCESSFUL"))
    assert record.first_step_at is not None
    assert record.cli_started_at is not None


def test_a_cli_that_was_not_started_has_no_times(run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise CommandNotStarted("x", "no such program.")

    monkeypatch.setattr(module, "CliProcess", refuse)
    record = run.execution().run()
    assert (record.cli_started_at, record.first_step_at, record.warm) == (None, None, None)


@pytest.mark.parametrize("warm", [True, False])
def test_whether_it_was_warm_is_recorded(run: Watched, monkeypatch: pytest.MonkeyPatch, warm: bool) -> None:
    monkeypatch.setattr(Cli, "is_warm", warm)
    assert run.run(nothing).warm is warm
