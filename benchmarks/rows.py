"""A file with as many rows as wanted, made in seconds. Only the tasks, and what is RUNNING, are on the disk, too."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import msgspec

from benchmarks.history import TOML, record
from jobs.run.record import record_to_json
from jobs.status.database import Database
from jobs.status.table import RunTable, to_microseconds
from runner.ids import TaskId, new_run_id
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles, project_files
from tests.project import Project

ROWS, TASKS, RUNNING = 1_000_000, 500, 20
KINDS = (  # of groups; the numbers say whether the task was as it is now
    ("FINISHED", "", "AGENTIC", "WEB_UI", "api", 1),
    ("FAILED", "test_failed", "AGENTIC", "WEB_UI", "api", 1),
    ("FINISHED", "", "AGENTIC", "CLI", "cli", 0),
    ("FAILED", "test_failed", "AGENTIC", "CLI", "cli", 0),
    ("FINISHED", "", "REPLAY", "WEB_UI", "api", 1),
    ("FINISHED", "", "AGENTIC", "WEB_UI", "rerun", 1),
    ("ERROR", "timeout", "AGENTIC", "WEB_UI", "api", 1),
    ("RUNNING", "", "AGENTIC", "WEB_UI", "api", 1),
)
FILL = """
    WITH RECURSIVE numbers (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i < :rows - 1),
        kinds AS (SELECT i, 'k' || substr(lower(hex(randomblob(12))), 2) AS name, i % :tasks AS task,
            :began + i * :step AS at,
            0 + iif(i % 5 = 0, i / :tasks % 2 * 2, substr('0123456000002222', (i / :tasks + i * 7) % 16 + 1, 1)) AS kind
            FROM numbers)
    INSERT INTO runs (id, run_id, task, group_id, recorded, queued_at, started_at, finished_at, passed_steps,
        failed_steps, traversal_id, file, labels, wait, first_step, warm, fingerprint, failure, seen, counted)
    SELECT i + 1, name, task + 1, task * 8 + kind + 1, kind NOT IN (2, 3), at, at + 2000000,
        at + 12000000 + i * 7919 % 40000000, iif(kind IN (1, 3, 6), 3, 4), kind IN (1, 3, 6), NULL,
        'traverse_20260101_000000_' || name || '.json', iif(i % 10 = 0, '{"branch":"main"}', NULL),
        iif(kind IN (2, 3), NULL, 2.0), iif(kind IN (2, 3), NULL, 1.5), iif(kind IN (2, 3), NULL, 1),
        iif(kind IN (1, 3, 6), printf('%016x', i * 7919 % 300), NULL), iif(kind IN (1, 3, 6), :failure, NULL), NULL, 1
    FROM kinds"""
FAILURE = {
    "message": "The cart shows <n> things",
    "action": "click",
    "path": "/cart",
    "example": 4 * "The cart is empty. ",
}


def fill_rows(project: Project) -> None:
    """The file with all rows, without any files of their runs."""
    for number in range(TASKS):
        task = project.root / "tasks" / f"task_{number}"
        for folder in ("runs", "traversals"):
            (task / folder).mkdir(parents=True)
        (task / f"task_task_{number}.toml").write_text(TOML.format(number=number))
    settings = project.settings()
    files = project_files(settings)
    began = datetime.now(UTC) - timedelta(days=365)
    now = datetime.now(UTC)
    running = [(new_run_id(), TaskId(f"task_{number}")) for number in range(RUNNING)]
    for run_id, task_id in running:
        kept = files.folder(task_id, run_id)
        kept.path.mkdir()
        kept.record.write_bytes(record_to_json(record(task_id, run_id, now, is_over=False)))
    with closing(Database(settings.history_file, str(settings.project_root))) as made:
        made.read(lambda _: None)
    with closing(sqlite3.connect(settings.history_file, isolation_level=None)) as rows:
        rows.executescript("PRAGMA synchronous = off; PRAGMA cache_size = -400000; BEGIN")
        with without_indexes(rows):
            table = RunTable(rows, files, TaskCatalog(settings.tasks_root))
            for number in range(TASKS):
                add_task(rows, table, files, TaskId(f"task_{number}"))
            step = timedelta(days=365) // ROWS // timedelta(microseconds=1)
            values = {"rows": ROWS, "tasks": TASKS, "began": to_microseconds(began), "step": step}
            rows.execute(FILL, {**values, "failure": msgspec.json.encode(FAILURE).decode()})
        for run_id, task_id in running:
            at = to_microseconds(now)
            rows.execute(
                "INSERT INTO runs (run_id, task, group_id, recorded, queued_at, started_at, passed_steps, failed_steps,"
                " seen, counted) VALUES (?, ?, ?, 1, ?, ?, 0, 0, '', 0)",
                (run_id, table.task(task_id), 8 * table.task(task_id), at, at + 1_000_000),
            )
        rows.execute("UPDATE groups SET n = (SELECT count(*) FROM runs WHERE group_id = groups.id)")
        rows.execute("UPDATE groups SET ended = n WHERE state != 'RUNNING'")
        rows.execute("INSERT INTO labels SELECT 'branch', 'main', queued_at, id FROM runs WHERE labels IS NOT NULL")
        rows.execute("INSERT INTO durations VALUES ('run', -1, 30, 1000000, 3e7), ('wait', -1, 2, 1000000, 2e6)")
        rows.execute("DELETE FROM meta WHERE key = 'indexing'")
        rows.execute("COMMIT")


@contextmanager
def without_indexes(rows: sqlite3.Connection) -> Iterator[None]:
    """Inside it there are no indexes and triggers, so that it is filled sooner."""
    found = rows.execute("SELECT type, name, sql FROM sqlite_master WHERE type != 'table' AND sql NOT NULL").fetchall()
    for kind, name, _ in found:
        rows.execute(f"DROP {kind} {name}")
    yield
    for *_, sql in found:
        rows.execute(sql)


def add_task(rows: sqlite3.Connection, table: RunTable, files: RunFiles, task_id: TaskId) -> None:
    """The task, all of whose runs have been listed, and its groups."""
    task = table.task(task_id)
    listed = str(files.listing_times(task_id))
    rows.execute("UPDATE tasks SET listed = ? WHERE id = ?", (listed, task))
    (case,) = rows.execute("SELECT case_id FROM tasks WHERE id = ?", (task,)).fetchone()
    for number, (*kind, is_as_then) in enumerate(KINDS):
        values = (8 * (task - 1) + number + 1, task, case * is_as_then, *kind)
        rows.execute("INSERT INTO groups VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0)", values)


def touch(rows: sqlite3.Connection) -> None:
    """Change the file, as another process would."""
    rows.execute("INSERT INTO meta VALUES ('touched', 1) ON CONFLICT DO UPDATE SET value = value + 1")
