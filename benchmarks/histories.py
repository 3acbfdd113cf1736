"""What long histories cost: 100,000 runs of one task on the disk, and 1,000,000 rows of 500 tasks."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial

from benchmarks.client import Client, request_bytes
from benchmarks.history import TOML, fill_task, record, traversal, write_traversal
from benchmarks.reading import HELLO, asker, others
from benchmarks.rows import ROWS, RUNNING, fill_rows, touch
from benchmarks.site import Site, Web
from benchmarks.table import Figure, interleaved, median, milliseconds, p95, plain, ratio
from jobs.queue.job import changes_channel
from jobs.run.record import record_to_json
from runner.ids import RunId, TaskId, new_run_id
from runner.project.run_files import RunFiles
from tests.project import Project
from tests.waiting import wait_for

ON_DISK = 100_000
SHOWN, CHANGED = 20, 80
ROUNDS, REPEATED = 7, 100
AT_REST_SECONDS = 5.0
MANY = TaskId("many")


def on_disk(site: Site) -> Iterator[Figure]:
    """A task with 100,000 runs: read for the first time, listed, changed."""
    web = make_web(site, "disk")
    task = web.stack.project.add_task(MANY, toml=TOML.format(number=1))
    files, waiting = RunFiles(task.parent), fill_task(task, ON_DISK, SHOWN + CHANGED)
    with closing(web.stack):
        to_list = web.start()
        rate = ON_DISK / web.wait_filled()
        yield plain(f"first start to first list, {ON_DISK} on disk", to_list, " s")
        yield plain("rebuild", rate, " runs/s", 15_000.0, at_least=True)
        yield plain("memory after that", web.memory(), " MB", 80.0)
        web.stop()
        yield from starts(web, f"{ON_DISK} on disk")
        publish = partial(finish, site, web, files)
        with Client(web.port) as client:
            yield from pages(web, client, f"{ON_DISK} on disk", ON_DISK)
            shown = [seconds_until_shown(client, run_id, publish) for run_id in waiting[:SHOWN]]
        yield Figure("published to listed", *spread(shown), median(shown) * 1000, " ms", 50.0)
        settle(web)
        yield plain("a web process at rest", web.share_at_rest(AT_REST_SECONDS), " % of a core", 0.5)
        yield plain("a changed record", cpu_of_each(web, waiting[SHOWN:], publish), " ms of CPU", 10.0)
        write = partial(add_by_hand, files)
        yield plain(
            "a new traversal", cpu_of_each(web, [new_run_id() for _ in range(CHANGED)], write), " ms of CPU", 10.0
        )


def of_rows(site: Site) -> Iterator[Figure]:
    """1,000,000 rows, of which nothing but the tasks and what is RUNNING is on the disk."""
    web = make_web(site, "rows")
    fill_rows(web.stack.project)
    say_hello = asker(Client(site.hello_port), request_bytes("/hello"), 200)
    with closing(web.stack), closing(sqlite3.connect(web.stack.environ["HISTORY_FILE"], isolation_level=None)) as rows:
        yield from starts(web, f"{ROWS} rows")
        with Client(web.port) as client:
            answer = client.ask(request_bytes("/test-runs"))[2]
            assert f'"total_count":{ROWS + RUNNING}'.encode() in answer, answer[-300:]
            ask_list = asker(client, request_bytes("/test-runs?page_size=25"), 200)
            shown = {"over": "/?status=FINISHED", "moving": "/"}
            asks = {name: asker(client, request_bytes(path), 200) for name, path in shown.items()}
            hello, samples = interleaved(say_hello, {"list": ask_list, **asks}, REPEATED)
            yield ratio(f"list of 25, {ROWS} rows", samples["list"], hello, HELLO, 3.0)
            yield ratio(f"page of runs that are over, {ROWS} rows", samples["over"], hello, HELLO, 10.0)
            yield ratio(f"page of runs, {RUNNING} of them RUNNING", samples["moving"], hello, HELLO)
            for name, path, target in queries():
                yield milliseconds_of(name, [after_change(client, rows, path) for _ in range(ROUNDS)], target)
        yield plain("memory after all of that", web.memory(), " MB", 80.0)
        yield plain("its web process at rest", web.share_at_rest(AT_REST_SECONDS), " % of a core", 0.5)
        yield health_beside_others(web, rows)


def health_beside_others(web: Web, rows: sqlite3.Connection) -> Figure:
    """`/health` alone, and beside a client for each of the queries, while rows change."""
    idle: list[float] = []
    beside: list[float] = []
    with Client(web.port) as client:
        ask = asker(client, request_bytes("/health"), 200)
        for _ in range(2):
            idle += [ask() for _ in range(200)]
            with others(web.port, [path for _, path, _ in queries()]):
                for _ in range(10):
                    touch(rows)
                    beside += [ask() for _ in range(20)]
    return ratio("health beside all of that", beside, idle, "x idle", 2.0)


def queries() -> Iterator[tuple[str, str, float]]:
    """What is asked of the rows: a name, a path, and the milliseconds that it may take."""
    since = f"{datetime.now(UTC) - timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}"
    filters = {
        "": "page=1",
        ", of one task": "test_case_id=task_3",
        ", of one state": "status=FAILED",
        ", of a rare state": "status=RUNNING",
        ", of a label": "label=branch:main",
        ", searched": "search=number+7",
        ", searched by ID": "search=kab1",
        ", since 30 days": f"since={since}",
        ", of one task since 30 days": f"since={since}&test_case_id=task_3",
        ", the middle": f"page={ROWS // 50}",
        ", the middle of one state": f"status=FAILED&page={ROWS // 50 // 5}",
        ", the middle of a search": f"search=number+7&page={ROWS // 50 // 5}",
        ", the oldest": "sort_order=asc",
    }
    for name, words in filters.items():
        yield f"page of 25{name}", f"/test-runs?page_size=25&{words}", 50.0
    yield "/stats of 500 tasks", "/stats", 100.0
    yield "/tasks/task_3/stats", "/tasks/task_3/stats", 50.0
    yield "/tasks", "/tasks?page_size=25", 50.0
    yield "/failures of 7 days", "/failures?since=7d", 100.0
    yield "/metrics", "/metrics", 100.0


def pages(web: Web, client: Client, of: str, total: int) -> Iterator[Figure]:
    """The first page and that in the middle, each as if it had never been asked for."""
    for name, page in (("first", 1), ("middle", total // 50)):
        with closing(sqlite3.connect(web.stack.environ["HISTORY_FILE"], isolation_level=None)) as rows:
            path = f"/test-runs?page_size=25&page={page}"
            taken = [after_change(client, rows, path) for _ in range(ROUNDS)]
        yield milliseconds_of(f"page of 25, the {name} of {of}", taken, 50.0)


def make_web(site: Site, name: str) -> Web:
    """A web process for a project of its own, on the Redis of the site."""
    folder = site.folder / name
    project = Project(folder / "project")
    return Web(project, folder, REDIS_URL=site.redis.environ["REDIS_URL"], QUEUE_NAME=name)


def finish(site: Site, web: Web, files: RunFiles, run_id: RunId) -> None:
    """Write that the run is over now, and publish it."""
    content = record_to_json(record(MANY, run_id, datetime.now(UTC), is_over=True))
    files.folder(MANY, run_id).record.write_bytes(content)
    site.connect().publish(changes_channel(web.stack.environ["QUEUE_NAME"]), run_id)


def add_by_hand(files: RunFiles, run_id: RunId) -> None:
    """One more run by hand."""
    write_traversal(files.tasks_root / MANY, run_id, traversal(run_id, 1000, "SUCCESSFUL"), datetime.now())


def seconds_until_shown(client: Client, run_id: RunId, publish: Callable[[RunId], None]) -> float:
    """From its publication until a list shows the run as it is now."""
    ask = request_bytes("/test-runs?page_size=25&status=FINISHED")
    publish(run_id)
    began = time.perf_counter()
    while run_id.encode() not in client.ask(ask)[2]:
        assert time.perf_counter() - began < 10, f"{run_id} was not listed"
    return time.perf_counter() - began


def cpu_of_each(web: Web, runs: list[RunId], change: Callable[[RunId], None]) -> float:
    """Milliseconds that the web process computes for one of these changes, that come one after another."""
    before = web.cpu_seconds()
    for run_id in runs:
        change(run_id)
        time.sleep(0.04)  # so that each is read by itself
    return 1000 * (web.cpu_seconds() - before) / len(runs)


def settle(web: Web) -> None:
    """Wait until the last changes have been read, and the process has come to rest."""
    wait_for(lambda: web.share_at_rest(1.0) < 5.0, 30, f"a rest of {web.stack.folder}")


def starts(web: Web, what: str) -> Iterator[Figure]:
    """Of three starts, after the first: how long it takes until it answers at all, and then until it has a list."""
    health, listed = [], []
    for _ in range(3):
        web.stop()
        health.append(web.start("/health"))
        with Client(web.port) as client:
            listed.append(asker(client, request_bytes("/test-runs"), 200)())
    yield plain(f"restart to /health, {what}", median(health), " s")
    yield Figure("from there to the first list", *spread(listed), median(listed), " s", 0.5)


def after_change(client: Client, rows: sqlite3.Connection, path: str) -> float:
    """Seconds for an answer that nothing was kept of."""
    touch(rows)
    return asker(client, request_bytes(path), 200)()


def spread(samples: list[float]) -> tuple[str, str]:
    """Their median and p95 as texts."""
    return milliseconds(median(samples)), milliseconds(p95(samples))


def milliseconds_of(name: str, samples: list[float], target: float) -> Figure:
    """A time that is no ratio."""
    return Figure(name, *spread(samples), median(samples) * 1000, " ms", target)
