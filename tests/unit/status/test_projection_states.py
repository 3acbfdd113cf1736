"""Whatever happens to a project, its rows are in the end as those that are made anew from the disk."""

import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from jobs.queue.records import mark_pruned
from jobs.run.record import RunRecord, record_to_json
from jobs.run.state import Origin, Reason, RunType, State
from jobs.status.database import Database
from jobs.status.projection import Place, Projection
from runner.errors import ProjectGone
from runner.ids import RunId, TaskId
from runner.project.adoption import adopt
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder
from tests.project import FAULT, PASSED, VISIT, Project, traversal_bytes
from tests.unit.runs import STAMP, write_run

TASKS = ("a", "b", "c")
RUNS = tuple(f"{letter}1".ljust(24, "0") for letter in "pqrs")
CONTENTS = {
    "passed": traversal_bytes([VISIT, PASSED], "SUCCESSFUL"),
    "failed": traversal_bytes([VISIT, FAULT], "FAILED"),
    "growing": traversal_bytes([VISIT]),
    "broken": b"{",
}
ROWS = """SELECT run_id, name, recorded, queued_at, started_at, finished_at, passed_steps, failed_steps, traversal_id,
    labels, wait, first_step, warm, fingerprint, failure, state, reason, run_type, origin, trigger,
    (SELECT test_case FROM cases WHERE id = CASE groups.case_id WHEN 0 THEN tasks.case_id ELSE groups.case_id END)
    FROM runs JOIN tasks ON tasks.id = runs.task LEFT JOIN groups ON groups.id = group_id ORDER BY 1, 2"""
SIZES = "SELECT id, n, (SELECT count(*) FROM runs WHERE group_id = groups.id) FROM groups"
LABELS = "SELECT key, value, queued_at, run FROM labels ORDER BY 1, 2, 3, 4"
OF_ROWS = "SELECT key, value, queued_at, runs.id FROM runs, json_each(labels) ORDER BY 1, 2, 3, 4"

names, runs, ages = st.sampled_from(TASKS), st.sampled_from(RUNS), st.sampled_from([0.0, 10.0, 10.0, 4000.0])


class Machine(RuleBasedStateMachine):
    """Two processes with one file, and a person with a shell."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.project = Project(self.root / "project")
        self.tasks = self.root / "project" / "tasks"
        for name in TASKS[:2]:
            self.project.add_task(name)
        self.databases: list[Database] = []
        self.both = self.open("runs"), self.open("runs")

    def open(self, name: str) -> Projection:
        self.databases.append(Database(self.root / name, "ours"))
        return Projection(self.databases[-1], RunFiles(self.tasks), TaskCatalog(self.tasks))

    def teardown(self) -> None:
        try:
            self.check()
        finally:
            for database in self.databases:
                database.close()
            shutil.rmtree(self.root)

    def folder(self, task: str, run: str) -> RunFolder:
        return RunFolder(self.tasks, TaskId(task), RunId(run))

    def change(self, task: str, run: str, **changes: Any) -> None:
        folder = self.folder(task, run)
        if folder.record.exists():
            folder.write_record(json.dumps({**json.loads(folder.record.read_bytes()), **changes}).encode())

    @rule(task=names, run=runs, tell=st.booleans(), label=st.sampled_from(["x", "y", None]))
    def accept(self, task: str, run: str, tell: bool, label: str | None) -> None:
        if not (self.tasks / task).exists() or self.folder(task, run).path.exists():
            return
        record = RunRecord(
            run_id=RunId(run),
            task_id=TaskId(task),
            test_case=None,
            browser_config=None,
            run_type=RunType.AGENTIC,
            origin=Origin.WEB_UI,
            queued_at=datetime.now(UTC),
            labels={} if label is None else {"key": label, "other": label},
        )
        self.folder(task, run).create(record_to_json(record))
        self.tell(run, tell)

    def tell(self, run: str, tell: bool) -> None:
        if tell:
            self.both[0].tell(RunId(run))

    @rule(task=names, run=runs, tell=st.booleans())
    def start(self, task: str, run: str, tell: bool) -> None:
        self.change(task, run, started_at=datetime.now(UTC).isoformat(), epoch=1)
        self.tell(run, tell)

    @rule(task=names, run=runs, state=st.sampled_from([State.FINISHED, State.FAILED, State.ERROR]))
    def end(self, task: str, run: str, state: State) -> None:
        now = datetime.now(UTC).isoformat()
        reason = None if state is State.FINISHED else Reason.LOST
        outcome = {"state": state, "reason": reason, "error_message": None, "finished_at": now}
        self.change(task, run, started_at=now, first_step_at=now, epoch=1, outcome=outcome)
        self.tell(run, True)

    @rule(task=names, run=runs, content=st.sampled_from([*CONTENTS]), age=ages, stamp=st.sampled_from("12"))
    def write(self, task: str, run: str, content: str, age: float, stamp: str) -> None:
        if (self.tasks / task).exists():
            self.unwrite(task, run)
            path = write_run(self.tasks / task, STAMP[:-1] + stamp, run, CONTENTS[content], age)
            self.both[1].tell(RunId(run), Place(TaskId(task), RunId(run), path.name))

    @rule(task=names, run=runs)
    def unwrite(self, task: str, run: str) -> None:
        for path in (self.tasks / task / "traversals").glob(f"*{run}.json"):
            path.unlink()

    @rule(task=names, run=runs, file=runs)
    def adopt(self, task: str, run: str, file: str) -> None:
        path = self.folder(task, run).record
        if not path.exists() or run == file or self.folder(task, file).path.exists():
            return
        is_free = json.loads(path.read_bytes())["traversal_id"] is None
        if is_free and adopt(self.tasks, TaskId(task), RunId(file), RunId(run)):
            self.change(task, run, traversal_id=file, started_at=datetime.now(UTC).isoformat(), epoch=1)
            self.tell(run, True)

    @rule(task=names, run=runs)
    def delete_run(self, task: str, run: str) -> None:
        shutil.rmtree(self.folder(task, run).path, ignore_errors=True)
        for link in (self.tasks / task / "runs" / ".adopted").glob("*"):
            if str(link.readlink()) == run:
                link.unlink()

    @rule(task=names, name=names, keep=st.booleans())
    def copy_task(self, task: str, name: str, keep: bool) -> None:
        if (self.tasks / task).exists() and not (self.tasks / name).exists():
            shutil.copytree(self.tasks / task, self.tasks / name, symlinks=True)
            (self.tasks / name / f"task_{task}.toml").rename(self.tasks / name / f"task_{name}.toml")
            if not keep:
                shutil.rmtree(self.tasks / task)

    @rule(task=names, run=runs)
    def prune(self, task: str, run: str) -> None:
        folder = self.folder(task, run)
        if folder.record.exists() and json.loads(folder.record.read_bytes())["outcome"] is not None:
            mark_pruned(RunFiles(self.tasks), folder)
            self.unwrite(task, json.loads(folder.record.read_bytes())["traversal_id"] or run)
            self.tell(run, True)

    @rule(suffixes=st.sampled_from([("",), ("-wal",), ("-shm",), ("", "-wal", "-shm")]))
    def delete_database(self, suffixes: tuple[str, ...]) -> None:
        for suffix in suffixes:
            (self.root / f"runs{suffix}").unlink(missing_ok=True)

    @rule(index=st.sampled_from([0, 1]))
    def catch_up(self, index: int) -> None:
        self.both[index].catch_up()

    @rule(index=st.sampled_from([0, 1]))
    def sweep(self, index: int) -> None:
        assert self.both[index].sweep()

    @rule()
    def vanish(self) -> None:
        away = self.tasks.with_name("away")
        self.tasks.rename(away)
        for projection in self.both:
            with pytest.raises(ProjectGone):
                projection.sweep()
            with suppress(ProjectGone):  # if nothing was told
                projection.catch_up()
        away.rename(self.tasks)

    def check(self) -> None:
        for projection in self.both:
            projection.catch_up()
        fresh = self.open("fresh")
        settle = time.time() - 5  # nothing is being written any more
        for path in self.tasks.glob("*/traversals/*.json"):
            if path.stat().st_mtime > settle:
                os.utime(path, (settle, settle))
        for projection in (*self.both, fresh):
            before = None
            deadline = time.monotonic() + 3
            while before != (before := rows(projection)) or self.unsettled(projection):
                assert projection.sweep()
                assert time.monotonic() < deadline, self.unsettled(projection)
                time.sleep(0.01)
        expected = rows(fresh)
        for projection in self.both:
            assert rows(projection) == expected
            assert projection.indexing() is None
        for projection in (*self.both, fresh):
            for _, n, count in query(projection, SIZES):
                assert n == count
            assert query(projection, LABELS) == query(projection, OF_ROWS)

    def unsettled(self, projection: Projection) -> bool:
        return bool(
            query(
                projection,
                "SELECT 1 FROM tasks WHERE listed IS NULL AND name IN (SELECT value FROM json_each(?))",
                json.dumps([path.name for path in self.tasks.iterdir()]),
            )
        )


def rows(projection: Projection) -> list[Any]:
    return query(projection, ROWS)


def query(projection: Projection, statement: str, *values: str) -> list[Any]:
    return projection.database.read(lambda it: it.execute(statement, values).fetchall())


def test_the_rows_are_as_the_disk_whatever_happened() -> None:
    count = int(os.environ.get("N", "20"))
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=count, stateful_step_count=25, deadline=None, suppress_health_check=[*HealthCheck]
        ),
    )
