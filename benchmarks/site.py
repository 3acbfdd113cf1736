"""All that is measured, on free ports: a bare hello, a Redis, and a web process for each of three histories."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.client import Client, request_bytes
from benchmarks.history import LARGE, SMALL, History, traversal
from runner.ids import RunId, new_run_id
from tests.project import Project
from tests.stack import ROOT, Stack, free_port
from tests.waiting import wait_for

SIZES = (10, 1_000, 10_000)
COMMAND = f"sh {ROOT / 'benchmarks' / 'cli.sh'} {{task_id}}"


class Web:
    """A project, and its web process."""

    def __init__(self, project: Project, folder: Path, **changes: str) -> None:
        self.stack = Stack(project, folder, RUNNER_COMMAND=COMMAND, LOG_LEVEL="WARNING", **changes)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, path: str = "/test-runs") -> float:
        """Start the web process; seconds until it has answered for the path."""
        began = time.perf_counter()
        self.process = self.stack.line("web")
        wait_for(lambda: self.answers(path), 60, f"{path} at {self.stack.folder}", step=0.002)
        return time.perf_counter() - began

    def stop(self) -> None:
        """End the web process."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)

    def wait_filled(self) -> float:
        """Wait until lists have all runs; seconds until then."""
        began = time.perf_counter()
        with Client(self.port) as client:
            ask = request_bytes("/test-runs?page_size=1")
            wait_for(
                lambda: b'"indexing":null' in client.ask(ask)[2], 120, f"all runs at {self.stack.folder}", step=0.05
            )
        return time.perf_counter() - began

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.stack.port

    def memory(self) -> float:
        """Megabytes that the web process has in memory now."""
        return float(self._measured.memory_info().rss) / 1e6

    def cpu_seconds(self) -> float:
        """What the web process has computed so far."""
        return sum(self._measured.cpu_times()[:2])

    def share_at_rest(self, seconds: float) -> float:
        """Percent of a core that it takes in so many seconds."""
        before = self.cpu_seconds()
        time.sleep(seconds)
        return 100 * (self.cpu_seconds() - before) / seconds

    @property
    def _measured(self) -> psutil.Process:
        assert self.process is not None
        return psutil.Process(self.process.pid)

    def answers(self, path: str) -> bool:
        """Whether it has something at the path."""
        try:
            with Client(self.port) as client:
                return client.ask(request_bytes(path))[0] == 200
        except ConnectionError:
            return False


class Past(Web):
    """One with a history of so many runs."""

    def __init__(self, folder: Path, size: int) -> None:
        self.history = History(folder / "project", size)
        (self.history.root / "started").mkdir()
        super().__init__(Project(self.history.root), folder)

    def start(self, path: str = "") -> float:
        """Start the web process; seconds until it has answered for the path, or a run."""
        return super().start(path or f"/test-runs/{self.history.by_hand}")


class Site:
    """Everything, in one folder. `close` ends all of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.webs = {size: self._web(size) for size in SIZES}
        self.large = self.webs[SIZES[-1]]
        self.large_run = self.large.history.add(0, LARGE)
        self.hello_port = free_port()
        self.redis = self.large.stack
        self.redis.line("redis")
        self.redis.start(sys.executable, "-m", "benchmarks.floor", str(self.hello_port), log="hello.log")
        for web in self.webs.values():
            web.stack.environ["REDIS_URL"] = self.redis.environ["REDIS_URL"]
            web.stack.environ["QUEUE_NAME"] = f"history{web.history.size}"
        wait_for(self._is_up, 30, "hello and Redis")

    def start_unfinished(self) -> RunId:
        """A run by hand that is not over: its file says so."""
        run_id, history = new_run_id(), self.large.history
        history.write(history.tasks[1], run_id, traversal(run_id, SMALL, "PENDING"))
        wait_for(lambda: self.large.answers(f"/test-runs/{run_id}"), 20, f"{run_id} at {self.large.stack.folder}")
        return run_id

    def worker(self) -> subprocess.Popen[bytes]:
        """Start our worker for the largest history."""
        process = self.large.stack.line("worker")
        self.large.stack.wait_ready()
        return process

    def stock_worker(self) -> subprocess.Popen[bytes]:
        """Start RQ's own worker for a queue that is not ours."""
        command = ("rq", "worker", "--url", self.redis.environ["REDIS_URL"], "--serializer", "json", "--quiet", "stock")
        return self.redis.start(*command, log="stock.log")

    def connect(self) -> Any:
        """A connection to Redis."""
        return self.redis.redis

    def close(self) -> None:
        """End everything."""
        for web in self.webs.values():
            web.stack.close()

    def _web(self, size: int) -> Past:
        folder = self.folder / f"history{size}"
        folder.mkdir()
        return Past(folder, size)

    def _is_up(self) -> bool:
        try:
            with Client(self.hello_port) as client:
                return client.ask(request_bytes("/hello"))[0] == 200 and bool(self.connect().ping())
        except (ConnectionError, OSError):
            return False
