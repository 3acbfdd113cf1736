"""Thousands of runs that wait: workers stay alive, leave in time, and do nearly nothing.

`make soak` has CROWD_RUNS of them; `make test` runs a short form.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from jobs.queue.accept import RunAcceptor
from jobs.queue.connection import connect
from jobs.queue.heartbeat import HEARTBEAT_TTL
from runner.project.catalog import TaskCatalog
from runner.project.run_files import project_files
from tests.project import Project
from tests.proxy import Proxy
from tests.stack import Stack
from tests.waiting import wait_for
from tests.watching import living_workers

RUNS = int(os.environ.get("CROWD_RUNS", "200"))
WATCHED_SECONDS = 60.0 if RUNS > 1000 else 12.0
IDLE_SHARE = 0.02  # of a core, with 10,000 that wait
LEAVING_SECONDS = 4.0


def accept_many(project: Project, stack: Stack, task: str, count: int) -> None:
    """As so many requests would, without the web process."""
    settings = project.settings(REDIS_URL=stack.environ["REDIS_URL"])
    files, catalog = project_files(settings), TaskCatalog(settings.tasks_root)
    acceptor = RunAcceptor(settings, connect(settings.redis_url), files, catalog)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: acceptor.start(task, f"{task}_default"), range(count)))


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@pytest.mark.timeout(900)
def test_a_crowd_waits(project: Project, new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(RUN_TIMEOUT="600")
    stack.line("redis")
    stack.line("web")
    proxy = Proxy(stack.redis_port, delay=0.001)
    far = new_stack(RUN_TIMEOUT="600")
    far.environ["REDIS_URL"] = f"redis://127.0.0.1:{proxy.port}/0"
    project.add_task("slow", "visit wait:go pass")
    busy = far.line("worker")
    stack.wait_ready()
    running = stack.post("slow")
    wait_for(lambda: stack.run(running)["brain_states"])
    idle = far.line("worker")
    wait_for(lambda: living_workers(stack) == 2, 30)
    started = time.monotonic()
    accept_many(project, stack, "slow", RUNS)
    print(f"\n{RUNS} runs accepted in {time.monotonic() - started:.0f} s")
    beats = [stack.redis.ttl(key) for key in stack.redis.keys("bugninja-runner:heartbeat:*")]
    lowest, processes = min(beats), [psutil.Process(worker.pid) for worker in (busy, idle)]
    wait_for(lambda: far.log("worker").count("event=working") == 2)
    before, started = [cpu_seconds(process) for process in processes], time.monotonic()
    while time.monotonic() - started < WATCHED_SECONDS:
        keys = stack.redis.keys("bugninja-runner:heartbeat:*")
        assert len(keys) == 2
        lowest = min(lowest, *map(stack.redis.ttl, keys))
        wait_for(lambda: stack.run(running)["current_state"] == "RUNNING", 0)
        time.sleep(0.5)
    elapsed = time.monotonic() - started
    shares = [(cpu_seconds(process) - spent) / elapsed for process, spent in zip(processes, before, strict=True)]
    print(
        f"CPU of both workers: {', '.join(f'{share:.1%}' for share in shares)}; lowest TTL {lowest} of {HEARTBEAT_TTL}"
    )
    assert lowest > 2
    assert max(shares) < max(IDLE_SHARE, IDLE_SHARE * RUNS / 10_000) + 0.015  # which RQ's own pops take
    for number in range(3):
        fresh = far.line("worker")
        wait_for(lambda: living_workers(stack) == 3, 30)
        for worker in (fresh, idle) if number == 2 else (fresh,):
            asked = time.monotonic()
            worker.terminate()
            worker.wait(10)
            print(f"left after {time.monotonic() - asked:.1f} s")
            assert time.monotonic() - asked < LEAVING_SECONDS
    asked = time.monotonic()
    busy.terminate()
    busy.wait(10)
    print(f"left with a run after {time.monotonic() - asked:.1f} s")
    assert time.monotonic() - asked < LEAVING_SECONDS
    assert stack.run(running)["reason"] == "interrupted"
    assert stack.call("GET", "/test-runs").body["total_count"] == RUNS + 1
    assert "recovery_failed" not in far.log("worker")
    proxy.close()
