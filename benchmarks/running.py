"""What it costs to start runs, to carry them out, and to watch them."""

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rq import Queue
from rq.serializers import JSONSerializer

from benchmarks.client import Client, request_bytes
from benchmarks.floor import execute
from benchmarks.history import SMALL, traversal
from benchmarks.reading import HELLO, asker
from benchmarks.site import COMMAND, Site
from benchmarks.table import Figure, interleaved, median, milliseconds, p95, plain, ratio
from runner.ids import new_run_id
from tests.waiting import wait_for

POSTS = 50
STARTS = 15
SECONDS_LONG = 5
RENAMES = 60
LISTENERS = 200
AT_REST_SECONDS = 5.0


def start_path(task_id: str) -> str:
    """Where a run of the task is started."""
    return f"/test-runs/execute-configuration/{task_id}/{task_id}_default"


def posts(site: Site) -> Iterator[Figure]:
    """Accept runs, while no worker is there; then how much Redis keeps of them when they are over."""
    hello = asker(Client(site.hello_port), request_bytes("/hello"), 200)
    client, tasks = Client(site.large.port), site.large.history.tasks
    redis = site.connect()
    paths = [request_bytes(start_path(tasks[number % len(tasks)]), "POST") for number in range(POSTS)]
    turns = iter(paths)
    asks = {
        "POST, a new run": lambda: asker(client, next(turns), 202)(),
        "POST, unknown task": asker(client, request_bytes(start_path("nothing"), "POST"), 404),
    }
    floor, samples = interleaved(hello, asks, POSTS)
    for name, taken in samples.items():
        yield ratio(name, taken, floor, HELLO, 6.0)
    together = [at_once(site, 16) for _ in range(5)]
    one = median(samples["POST, a new run"])
    slowest = statistics.median(map(max, together))
    yield Figure("16 POSTs at once, the slowest", milliseconds(slowest), "", slowest / one, "x one", 10.0)
    runs = POSTS + 5 * 16
    worker = site.worker()
    wait_for(lambda: finished(site) >= runs, 120, f"{runs} runs in {site.folder}")
    before = redis.info("memory")["used_memory"]
    with Client(site.large.port) as later:
        for path in paths:
            later.ask(path)
    wait_for(lambda: finished(site) >= runs + POSTS, 120, f"{POSTS} more runs in {site.folder}")
    kept = redis.info("memory")["used_memory"] - before
    worker.terminate()
    worker.wait(10)
    yield plain("Redis memory per finished run", kept / POSTS / 1000, " kB", 4.0)


def at_once(site: Site, count: int) -> list[float]:
    """Seconds that each of so many POSTs took that were sent at the same time."""
    clients = [Client(site.large.port) for _ in range(count)]
    barrier, taken = threading.Barrier(count), []
    tasks = site.large.history.tasks

    def post(number: int) -> None:
        ask = asker(clients[number], request_bytes(start_path(tasks[number % len(tasks)]), "POST"), 202)
        barrier.wait()
        taken.append(ask())

    threads = [threading.Thread(target=post, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


def finished(site: Site) -> int:
    """How many jobs of the largest history are over."""
    return int(site.connect().zcard(f"rq:finished:{site.large.stack.environ['QUEUE_NAME']}"))


def starting(site: Site) -> Iterator[Figure]:
    """From the request to the start of the process: a stock worker that calls Popen, and ours, in turns."""
    site.worker()
    site.stock_worker()
    root = site.large.history.root
    queue = Queue("stock", connection=site.connect(), serializer=JSONSerializer)
    client = Client(site.large.port)
    post = request_bytes(start_path("task_5"), "POST")
    ours, theirs = [], []
    for _ in range(STARTS + 1):
        began = time.time()
        job = queue.enqueue(execute, COMMAND.format(task_id="task_5").split(), str(root))
        theirs.append(started_at(root, job.id) - began)
        wait_for(lambda job=job: job.get_status() == "finished", 20, "the stock job", step=0.005)  # type: ignore[misc]
        began = time.time()
        run_id = run_id_of(client.ask(post)[2])
        ours.append(started_at(root, run_id) - began)
        wait_over(site.large.port, run_id)
    yield Figure("stock rq worker, enqueue to process", milliseconds(median(theirs[1:])), "", 1.0, "x")
    yield ratio("POST to process", ours[1:], theirs[1:], "x stock", 2.0)


def whole_run(site: Site) -> Iterator[Figure]:
    """A CLI that takes a second: started by Popen alone, and from its POST to its last event, in turns."""
    root = site.large.history.root
    folder = root / "tasks" / "second"
    (folder / "traversals").mkdir(parents=True)
    (folder / "task_second.toml").write_text('[task]\nname = "A second"\n')
    command = COMMAND.format(task_id="second").split()
    client = Client(site.large.port)
    alone, ours = [], []
    for _ in range(SECONDS_LONG):
        began = time.perf_counter()
        subprocess.run(command, cwd=root, env={**os.environ, "BUGNINJA_RUN_ID": new_run_id()}, check=True)
        alone.append(time.perf_counter() - began)
        began = time.perf_counter()
        run_id = run_id_of(client.ask(request_bytes(start_path("second"), "POST"))[2])
        ours.append(wait_over(site.large.port, run_id) - began)
    more = 100 * (median(ours) / median(alone) - 1)
    yield Figure("overhead of a run of 1 s over Popen", milliseconds(median(ours)), "", more, " %", 5.0)


def live(site: Site) -> Iterator[Figure]:
    """How long a new traversal takes from its rename to a listening client; what 200 listeners cost at rest."""
    history, run_id = site.large.history, site.start_unfinished()
    delays: list[float] = []
    with Client(site.large.port) as client:
        events = client.events(f"/test-runs/{run_id}/events")
        next(events)
        settle()
        steps = traversal(run_id, SMALL, "PENDING")
        for number in range(RENAMES):
            content = steps.replace(b"Put thing number 0", f"Put thing number {number + 100}".encode())
            began = time.perf_counter()
            history.write(history.tasks[1], run_id, content)
            delays.append(next(events)[0] - began)
            settle()
    yield plain("rename to a listening client, median", median(delays) * 1000, " ms", 8.0)
    yield plain("rename to a listening client, p95", p95(delays) * 1000, " ms", 25.0)
    clients = [Client(site.large.port) for _ in range(LISTENERS)]
    for client in clients:
        next(client.events(f"/test-runs/{run_id}/events"))
    settle()
    yield plain("200 listeners at rest", site.large.share_at_rest(AT_REST_SECONDS), " % of a core", 5.0)
    yield plain("memory with them", site.large.memory(), " MB")
    for client in clients:
        client.close()


def settle() -> None:
    """Let the last change and its echoes pass."""
    time.sleep(0.15)


def run_id_of(body: bytes) -> str:
    """The ID in the answer to a POST."""
    return body.partition(b'"id":"')[2][:24].decode()


def started_at(root: Path, run_id: str) -> float:
    """When the CLI of this run began, by its own clock, as soon as it has."""
    path = root / "started" / run_id
    return float(wait_for(lambda: path.exists() and path.read_text(), 20, f"{path}", step=0.002))


def wait_over(port: int, run_id: str) -> float:
    """When the last event of the run was here (as `time.perf_counter` says it)."""
    with Client(port) as client:
        for at, event in client.events(f"/test-runs/{run_id}/events"):
            if any(state in event for state in (b'"FINISHED"', b'"FAILED"', b'"ERROR"')):
                return at
    raise AssertionError(f"{run_id} did not end")
