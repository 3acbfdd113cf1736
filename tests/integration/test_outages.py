"""Redis and workers that go away in the middle, for real: nothing is lost, and nothing ends up in a wrong state."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise

import psutil
import pytest
from redis.exceptions import RedisError

from tests.project import Project
from tests.stack import Stack, work_horses
from tests.waiting import wait_for


class Running:
    """A stack with a run that goes on until `go` is called, one that waits for its task, and one for a worker."""

    def __init__(self, project: Project, stack: Stack) -> None:
        self.project, self.stack = project, stack
        self.folder = project.add_task("slow", "print:began visit wait:go print:ended visit pass")
        project.add_task("quick", "print:ran pass")
        self.running = stack.post("slow")
        wait_for(lambda: stack.run(self.running)["brain_states"])
        self.behind, self.queued = stack.post("slow"), stack.post("quick")

    def go(self) -> None:
        """Let the run go on to its end."""
        (self.folder / "go").touch()

    def check_all_goes_well(self) -> None:
        """Every run comes to its true end, each CLI was started once, and new runs are taken."""
        self.go()
        for run_id, log in ((self.running, "began\nended\n"), (self.behind, "began\nended\n"), (self.queued, "ran\n")):
            run = self.stack.wait_final(run_id, 60)
            assert (run["current_state"], run["reason"], run["stale"]) == ("FINISHED", None, False)
            assert self.stack.text(f"/test-runs/{run_id}/log") == log
        new = self.stack.post("quick")
        assert self.stack.wait_final(new)["current_state"] == "FINISHED"
        assert self.stack.call("GET", "/test-runs").body["total_count"] == 4
        for process in self.stack.processes[1:3]:
            assert process.poll() is None
        assert "Traceback" not in self.stack.log("web")


@pytest.fixture
def running(project: Project, stack: Stack) -> Running:
    return Running(project, stack)


def check_it_is_told_from_the_disk(running: Running) -> None:
    """While Redis is of no use: what the disk knows, marked as such, and no new runs."""
    stack = running.stack
    for run_id, state in ((running.running, "RUNNING"), (running.behind, "PENDING"), (running.queued, "PENDING")):
        run = stack.run(run_id)
        assert (run["current_state"], run["stale"]) == (state, True)
    assert stack.call("GET", "/test-runs").body["total_count"] == 3
    assert stack.call("POST", "/test-runs/execute-configuration/quick/quick_default").status == 503
    assert stack.call("GET", "/ready").status == 503


@pytest.mark.parametrize("ends_meanwhile", [False, True])
def test_redis_killed_and_started_again(running: Running, ends_meanwhile: bool) -> None:
    stack = running.stack
    stack.processes[0].kill()
    stack.processes[0].wait(5)
    check_it_is_told_from_the_disk(running)
    if ends_meanwhile:
        running.go()
        run = stack.wait_final(running.running)
        assert (run["current_state"], run["stale"]) == ("FINISHED", False)
    stack.processes.append(stack.line("redis"))
    running.check_all_goes_well()


def test_redis_paused(running: Running) -> None:
    stack = running.stack
    redis = stack.processes[0]
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        paused = time.monotonic()
        check_it_is_told_from_the_disk(running)
        wait_for(lambda: time.monotonic() - paused > 10, 15, "ten seconds without Redis")
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    running.check_all_goes_well()


def test_redis_emptied(running: Running) -> None:
    stack = running.stack
    stack.redis.flushall()
    for run_id, state in ((running.running, "RUNNING"), (running.behind, "PENDING"), (running.queued, "PENDING")):
        assert stack.run(run_id)["current_state"] == state
    wait_for(lambda: "job_restored" in stack.log("worker"), 15)
    wait_for(lambda: stack.log("worker").count("enqueued_again") == 2, 40, "both runs in the queue again")
    assert stack.run(running.behind)["queue"] == {"position": 1, "waiting_for": running.running}
    wait_for(lambda: stack.call("GET", "/ready").status == 200, 15, "a worker that is known again")
    running.check_all_goes_well()


@contextmanager
def full(stack: Stack) -> Iterator[None]:
    stack.redis.config_set("maxmemory", "1")
    yield
    stack.redis.config_set("maxmemory", "0")


@contextmanager
def read_only(stack: Stack) -> Iterator[None]:
    stack.redis.replicaof("127.0.0.1", "1")
    yield
    stack.redis.replicaof("NO", "ONE")


@contextmanager
def unable_to_save(stack: Stack) -> Iterator[None]:
    """Redis refuses writes (MISCONF) after a save failed: where its file should be, there is a folder."""
    stack.redis.config_set("save", "3600 1000000")
    in_the_way = stack.folder / "redis" / str(stack.redis.config_get("dbfilename")["dbfilename"])
    in_the_way.mkdir()
    stack.redis.bgsave()
    wait_for(lambda: refuses_writes(stack), 20, "MISCONF")
    yield
    in_the_way.rmdir()
    wait_for(lambda: saves(stack), 20, "a save that succeeds")


def refuses_writes(stack: Stack) -> bool:
    try:
        stack.redis.set("probe", "1")
    except RedisError as error:
        return "MISCONF" in str(error)
    return False


def saves(stack: Stack) -> bool:
    try:
        stack.redis.bgsave()
    except RedisError:
        return False  # one is under way
    return not refuses_writes(stack)


@pytest.mark.parametrize("refusal", [full, read_only, unable_to_save])
def test_redis_takes_no_writes(running: Running, refusal: Callable[[Stack], AbstractContextManager[None]]) -> None:
    stack = running.stack
    with refusal(stack):
        for run_id, state in ((running.running, "RUNNING"), (running.queued, "PENDING")):
            assert stack.run(run_id)["current_state"] == state
        refused = stack.call("POST", "/test-runs/execute-configuration/quick/quick_default")
        assert refused.status == 503
        assert "Redis does not take it" in refused.body["detail"]
        running.go()
        assert stack.wait_final(running.running)["current_state"] == "FINISHED"
        paused = time.monotonic()
        wait_for(lambda: time.monotonic() - paused > 3, 5, "a while without writes")
    running.check_all_goes_well()


def horse_of(worker: int) -> psutil.Process:
    children = wait_for(lambda: work_horses(worker), what="a work-horse")
    return children[0]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_machine_switched_off_in_the_middle_of_a_run(project: Project, stack: Stack, restarted: bool) -> None:
    """A worker is gone together with its work-horse and its template, the CLI lives on; another worker, or a new one,
    clears up."""
    if not restarted:
        stack.line("worker")
        wait_for(lambda: stack.call("GET", "/ready").body.get("workers") == 2, 15)
    project.add_task("slow", "child print:up visit sleep:120")
    run_id = stack.post("slow")
    wait_for(lambda: stack.run(run_id)["brain_states"])
    workers = [process for process in stack.processes[2:] if work_horses(process.pid)]
    (worker,) = workers
    horse = horse_of(worker.pid)
    others = psutil.Process(worker.pid).children()
    assert horse in others
    died = time.monotonic()
    for process in others:  # else they may see that the worker is gone, and end the CLI, before they are killed
        process.suspend()
    worker.kill()
    for process in others:
        process.kill()
    worker.wait(5)
    assert stack.processes_with("BUGNINJA_RUN_ID", run_id), "the CLI lives on, or this test shows nothing"
    if restarted:
        stack.line("worker")
    next_run = stack.post("slow")
    run = stack.wait_final(run_id, 30)
    assert time.monotonic() - died < 30
    assert (run["current_state"], run["reason"], len(run["brain_states"])) == ("ERROR", "interrupted", 1)
    assert not stack.processes_with("BUGNINJA_RUN_ID", run_id)
    wait_for(lambda: stack.run(next_run)["current_state"] == "RUNNING", 30, "the next run of the task")
    stack.call("POST", f"/test-runs/{next_run}/stop")
    assert stack.wait_final(next_run)["reason"] == "stopped"


def test_a_slow_worker_is_not_a_dead_one(project: Project, stack: Stack) -> None:
    folder = project.add_task("slow", "visit wait:go pass")
    stack.line("worker")
    wait_for(lambda: stack.call("GET", "/ready").body.get("workers") == 2, 15)
    run_id = stack.post("slow")
    wait_for(lambda: stack.run(run_id)["brain_states"])
    (worker,) = [process for process in stack.processes[2:] if work_horses(process.pid)]
    os.kill(worker.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    wait_for(lambda: time.monotonic() - stopped > 7, 10, "two missed beats")
    assert stack.run(run_id)["current_state"] == "RUNNING"
    os.kill(worker.pid, signal.SIGCONT)
    (folder / "go").touch()
    assert stack.wait_final(run_id)["current_state"] == "FINISHED"


def test_two_web_processes_and_four_workers_on_one_redis(project: Project, new_stack: Callable[..., Stack]) -> None:
    first, second = new_stack(), new_stack()
    second.environ |= {name: first.environ[name] for name in ("REDIS_URL", "REDIS_DATA")}
    first.line("redis")
    for stack in (first, second):
        for name in ("web", "worker", "worker"):
            stack.line(name)
    wait_for(lambda: first.call("GET", "/ready").body == {"status": "ready", "redis": True, "workers": 4}, 30)
    second.wait_ready()
    tasks = [f"task_{number}" for number in range(6)]
    for task in tasks:
        project.add_task(task, "print:began visit sleep:0.2 print:ended visit pass")
    with ThreadPoolExecutor(12) as pool:
        posts = [(stack, task) for _ in range(2) for stack in (first, second) for task in tasks]
        runs = [(task, run_id) for (_, task), run_id in zip(posts, pool.map(post, posts), strict=True)]
    for (_, run_id), other in zip(runs, [second, first] * 12, strict=True):
        assert other.wait_final(run_id, 90)["current_state"] == "FINISHED"
        assert other.text(f"/test-runs/{run_id}/log") == "began\nended\n"
    for stack in (first, second):
        assert stack.call("GET", "/test-runs?page_size=200").body["total_count"] == 24
    for task in tasks:
        times = sorted(
            (run["started_at"], run["finished_at"])
            for run in first.call("GET", f"/test-runs/test-case/{task}?page_size=200").body["items"]
        )
        assert all(end <= start for (_, end), (start, _) in pairwise(times)), "one at a time"
        assert len(project.traversals(task)) == 4


def post(where: tuple[Stack, str]) -> str:
    stack, task = where
    return stack.post(task)
