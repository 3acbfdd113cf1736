"""What it costs to look: runs, lists, what is not there, and all of that beside others who look."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from benchmarks.client import Client, request_bytes, requests_per_second
from benchmarks.history import LARGE, traversal
from benchmarks.site import SIZES, Site
from benchmarks.table import Figure, interleaved, median, milliseconds, p95, plain, ratio
from tests.stack import ROOT

ROUNDS = 300
BURST_SECONDS = 0.5
CLIENTS = (1, 16, 64)
HELLO = "x hello"


def asker(client: Client, request: bytes, status: int) -> Callable[[], float]:
    """Asks this once, and gives the seconds that it took. Raises `AssertionError` for another status."""

    def ask() -> float:
        began = time.perf_counter()
        answered = client.ask(request)[0]
        took = time.perf_counter() - began
        assert answered == status, f"{request!r} was answered {answered}"
        return took

    return ask


def one_client(site: Site) -> Iterator[Figure]:
    """One client asks for everything in turns."""
    history, large = site.large.history, Client(site.large.port)
    etag = etag_of(large, f"/test-runs/{site.large_run}")
    paths = {
        "health": ("/health", None),
        "GET run, started over REST": (f"/test-runs/{history.of_ours}", 3.0),
        "GET run, made by hand": (f"/test-runs/{history.by_hand}", 3.0),
        "GET run that is not over": (f"/test-runs/{site.start_unfinished()}", 3.0),
        "GET 5 MB run, unchanged": (f"/test-runs/{site.large_run}", None),
        "list of 25": ("/test-runs?page_size=25", 3.0),
        "list of 25, of one task": ("/test-runs?page_size=25&test_case_id=task_3", 3.0),
        "list of 25, of one state": ("/test-runs?page_size=25&status=FAILED", 4.0),
        "list of 25, searched": ("/test-runs?page_size=25&search=number+7", 5.0),
        "the last page of 25": ("/test-runs?page_size=25&page=400", None),
        "list of tasks": ("/tasks", None),
    }
    asks: dict[str, Callable[[], float]] = {}
    say_hello = asker(Client(site.hello_port), request_bytes("/hello"), 200)
    asks |= {name: asker(large, request_bytes(path), 200) for name, (path, _) in paths.items()}
    known = request_bytes(f"/test-runs/{site.large_run}", headers=f"if-none-match: {etag}\r\n")
    asks["GET 5 MB run, 304"] = asker(large, known, 304)
    asks["unknown run"] = asker(large, request_bytes("/test-runs/k" + 23 * "0"), 404)
    interleaved(say_hello, asks, 20)
    hello, samples = interleaved(say_hello, asks, ROUNDS)
    yield Figure("hello", milliseconds(median(hello)), milliseconds(p95(hello)), 1.0, HELLO)
    for name, (_, target) in paths.items():
        yield ratio(name, samples[name], hello, HELLO, target)
    yield ratio("GET 5 MB run, 304", samples["GET 5 MB run, 304"], hello, HELLO)
    yield ratio("unknown run", samples["unknown run"], hello, HELLO, 2.0)


def histories(site: Site) -> Iterator[Figure]:
    """The same run in histories of all sizes, each with a web process of its own."""
    asks = {
        f"GET run, history {size}": asker(Client(web.port), request_bytes(f"/test-runs/{web.history.of_ours}"), 200)
        for size, web in site.webs.items()
    }
    say_hello = asker(Client(site.hello_port), request_bytes("/hello"), 200)
    interleaved(say_hello, asks, 20)
    hello, samples = interleaved(say_hello, asks, ROUNDS)
    for name, taken in samples.items():
        yield ratio(name, taken, hello, HELLO)
    smallest, *_, largest = samples.values()
    yield ratio(f"GET run, history {SIZES[-1]} to {SIZES[0]}", largest, smallest, "x", 1.1)


def just_changed(site: Site) -> Iterator[Figure]:
    """A run of 5 MB whose file was just written anew."""
    run_id, history = site.large_run, site.large.history
    contents = [traversal(run_id, LARGE + extra, "SUCCESSFUL") for extra in (0, 3000)]
    request = request_bytes(f"/test-runs/{run_id}")
    alone = []
    with Client(site.large.port) as client:
        for number in range(10):
            history.write(history.tasks[0], run_id, contents[number % 2])
            alone.append(asker(client, request, 200)())
    yield plain("GET 5 MB run, just changed", median(alone) * 1000, " ms")


def per_second(site: Site) -> Iterator[Figure]:
    """Requests per second of 1, 16 and 64 clients, hello and ours in turns."""
    path = request_bytes(f"/test-runs/{site.large.history.of_ours}")
    for clients in CLIENTS:
        hello, run = [], []
        for _ in range(3):
            hello.append(requests_per_second(site.hello_port, [request_bytes("/hello")] * clients, BURST_SECONDS))
            run.append(requests_per_second(site.large.port, [path] * clients, BURST_SECONDS))
        share = 100 * statistics.median(run) / statistics.median(hello)
        target = 30.0 if clients == 16 else None
        spoken = f"GET run, {clients} clients: {statistics.median(run):.0f}/s, hello {statistics.median(hello):.0f}/s"
        yield Figure(spoken, "", "", share, " % of hello", target, at_least=True)


def beside_others(site: Site) -> Iterator[Figure]:
    """`/health` alone, and beside 4 clients that list and one that reads a run of 5 MB, in turns."""
    idle: list[float] = []
    beside: list[float] = []
    with Client(site.large.port) as client:
        ask = asker(client, request_bytes("/health"), 200)
        for _ in range(3):
            idle += [ask() for _ in range(300)]
            with others(site.large.port, [*["/test-runs?page_size=25"] * 4, f"/test-runs/{site.large_run}"]):
                beside += [ask() for _ in range(300)]
    yield ratio("health beside 4 that list and 1 that reads 5 MB", beside, idle, "x idle", 2.0)


@contextmanager
def others(port: int, paths: Sequence[str]) -> Iterator[None]:
    """Inside it a client for each of these paths asks without a pause."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.client", str(port), *paths], cwd=ROOT)
    try:
        time.sleep(1.0)
        yield
    finally:
        process.terminate()
        process.wait(10)


def etag_of(client: Client, path: str) -> str:
    """What identifies the content of this path now; empty if nothing does."""
    _, head, _ = client.ask(request_bytes(path))
    lines = [line.partition(b":") for line in head.split(b"\r\n")]
    return next((value.strip().decode() for name, _, value in lines if name.lower() == b"etag"), "")


def start_up(site: Site) -> Iterator[Figure]:
    """Start the web processes; the largest three times."""
    for web in site.webs.values():
        web.start()
        web.wait_filled()
    seconds, filled = [], []
    for _ in range(3):
        site.large.stop()
        seconds.append(site.large.start())
        filled.append(site.large.wait_filled())
    yield plain("start to the first answer for a run, history 10,000", median(seconds), " s", 1.5)
    yield plain("from there to the first list", median(filled), " s")
    yield plain("memory after that", site.large.memory(), " MB", 60.0)
    yield plain("import app", median([_import_seconds() for _ in range(5)]), " s", 0.3)


def _import_seconds() -> float:
    code = "import time; began = time.perf_counter(); import app; print(time.perf_counter() - began)"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(printed.stdout)
