"""What the pages for a browser cost: their bytes, and, in a Chromium, the time until one sees something."""

import os
import struct
import time
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.client import CHUNK, HOST, Client, request_bytes
from benchmarks.histories import make_web, spread
from benchmarks.history import LARGE, TOML, fill_task, traversal, write_traversal
from benchmarks.running import settle
from benchmarks.site import Site, Web
from benchmarks.table import Figure, median, plain
from runner.ids import RunId, new_run_id
from tests.chromium import find_chromium, open_page
from tests.waiting import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page

TASKS, RUNS, STEPS = 50, 50, 100
PICTURE_SIDE = 224  # pixels of a picture, each of three bytes that no compression makes fewer
LOADS, NEW_STEPS = 10, 20
MB = 1e6
PAINTED = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
NOTE_STEPS = """() => {
    window.seen = {};
    const note = (changes) => changes.forEach(({ addedNodes }) => addedNodes.forEach(({ id }) => {
        if (id) window.seen[id] ??= performance.timeOrigin + performance.now();
    }));
    new MutationObserver(note).observe(document.getElementById("steps"), { childList: true });
}"""


class Project(NamedTuple):
    """A web process with a worker, a failed run of 100 steps with a picture each, and a run that is not over."""

    web: Web
    failed: RunId
    running: RunId

    @property
    def task(self) -> Path:
        """The folder of their task."""
        return self.web.stack.project.root / "tasks" / "task_0"

    def write_running(self, steps: int) -> None:
        """The run that is not over has so many steps now."""
        write_traversal(self.task, self.running, traversal(self.running, LARGE, "PENDING", most=steps))


def pages(site: Site) -> Iterator[Figure]:
    """How large each page is, without its pictures, scripts and styles."""
    with project(site) as made, Client(made.web.port) as client:
        paths = {
            "list of 25": "/",
            "tasks, 50": "/ui/tasks",
            "a task with 50 runs": "/ui/tasks/task_0",
            "a run of 100 steps": f"/ui/runs/{made.failed}",
            "workers": "/ui/workers",
        }
        for name, path in paths.items():
            status, _, whole = client.ask(request_bytes(path))
            assert status == 200, whole
            sent = client.ask(request_bytes(path, headers="accept-encoding: gzip\r\n"))[2]
            yield plain(f"page: {name}, {len(whole) / 1000:.0f} kB, as it is sent", len(sent) / 1000, " kB", 60.0)
        yield from memory_of_report(made)


def memory_of_report(made: Project) -> Iterator[Figure]:
    """What the web process takes more while it sends a report of 20 MB than before."""
    save_report(made, "?images=none")
    before = made.web.memory()
    size, peak = save_report(made)
    yield plain("report", size / MB, " MB")
    yield plain("memory for it", peak - before, " MB more", 10.0)


def browser(site: Site) -> Iterator[Figure]:
    """What a person in front of a Chromium waits for."""
    if find_spec("playwright") is None or find_chromium() is None:
        print("There is no Chromium, or no playwright: what a browser shows, and when, was not measured.")
        return
    with project(site) as made, open_page() as page:
        base = f"http://{HOST}:{made.web.port}/ui/runs"
        yield painted(page, f"first paint of a run of {STEPS} steps", f"{base}/{made.failed}", 300.0)
        save_report(made)
        yield painted(page, "first paint of a report of 20 MB", report_file(made).as_uri(), 1000.0)
        page.goto(f"{base}/{made.running}", wait_until="networkidle")
        page.evaluate(NOTE_STEPS)
        shown = [seconds_to_screen(page, made, number) for number in range(2, NEW_STEPS + 2)]
        yield Figure("a step, from its file to the screen", *spread(shown), median(shown) * 1000, " ms", 100.0)


def painted(page: "Page", name: str, url: str, target: float) -> Figure:
    """When there is something to see, with a browser that has seen it before."""
    samples = []
    for _ in range(LOADS + 1):
        page.goto(url)
        samples.append(float(wait_for(lambda: page.evaluate(PAINTED), 20, f"a paint of {url}")) / 1000)
    return Figure(name, *spread(samples[1:]), median(samples[1:]) * 1000, " ms", target)


def seconds_to_screen(page: "Page", made: Project, number: int) -> float:
    """From the rename of the traversal that has the step first, until the page has it."""
    settle()
    began = time.time()
    made.write_running(number)
    at = wait_for(lambda: page.evaluate(f"window.seen['step-{number}']"), 10, f"step {number}", step=0.05)
    return float(at) / 1000 - began


@contextmanager
def project(site: Site) -> Iterator[Project]:
    """The project, whose processes are ended afterwards."""
    web = make_web(site, f"pages{len(list(site.folder.iterdir()))}")
    for number in range(TASKS):
        fill_task(web.stack.project.add_task(f"task_{number}", toml=TOML.format(number=number)), RUNS, 0)
    made = Project(web, new_run_id(), new_run_id())
    content = traversal(made.failed, LARGE, "FAILED", passed=False, most=STEPS)
    write_traversal(made.task, made.failed, content, datetime.now())
    made.write_running(1)
    folder = made.task / "screenshots" / made.failed
    folder.mkdir(parents=True)
    for number in range(STEPS):
        (folder / f"{number:03d}_go_to_url.png").write_bytes(picture())
    with closing(web.stack):
        web.start()
        web.stack.line("worker")
        web.stack.wait_ready()
        web.wait_filled()
        yield made


def picture() -> bytes:
    """A PNG of noise."""
    rows = b"".join(b"\0" + os.urandom(3 * PICTURE_SIDE) for _ in range(PICTURE_SIDE))
    head = struct.pack(">2I5B", PICTURE_SIDE, PICTURE_SIDE, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b""))
    made = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def report_file(made: Project) -> Path:
    """Where the report is kept."""
    return made.web.stack.folder / "report.html"


def save_report(made: Project, query: str = "") -> tuple[int, float]:
    """The size of the report in bytes, and the most memory of the web process meanwhile in MB."""
    url = f"http://{HOST}:{made.web.port}/test-runs/{made.failed}/report.html{query}"
    size, peak = 0, 0.0
    with urllib.request.urlopen(url) as response, report_file(made).open("wb") as file:
        while chunk := response.read(CHUNK):
            size, peak = size + file.write(chunk), max(peak, made.web.memory())
    return size, peak
