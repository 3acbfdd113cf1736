"""Many short runs while everything is killed at random: none is lost, none is told wrong, nothing is left behind.

`make soak` runs it for some minutes and prints its report; `make test` runs a short form. SOAK_SEED repeats one.
"""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.project import Project
from tests.stack import FINAL, Stack, is_template, work_horses
from tests.waiting import wait_for

RUNS = int(os.environ.get("SOAK_RUNS", "24"))
SEED = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
WORKERS = 3
PAUSE = (0.3, 1.5)  # seconds between two blows
BEHAVIOURS = {
    # what the CLI does, and then tells in a file of its own
    "passes": "note:began visit sleep:0.3 pass note:passed",
    "fails": "note:began visit sleep:0.2 fail note:failed",
    "breaks": "note:began visit sleep:0.1 note:broke exit:1",
    "stubborn": "note:began child deaf visit sleep:0.6 pass note:passed",
    "long": "note:began visit sleep:1 visit sleep:1 pass note:passed",
}


class Chaos:
    """Strikes at random, with real signals, until it is told to stop; counts its blows."""

    def __init__(self, stack: Stack, accepted: list[str]) -> None:
        self.stack, self.accepted = stack, accepted
        self.random = random.Random(SEED)
        self.blows: Counter[str] = Counter()
        self.workers = [stack.line("worker") for _ in range(WORKERS)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._strike, daemon=True)

    def __enter__(self) -> "Chaos":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _strike(self) -> None:
        kinds: list[Callable[[], bool]] = [
            self.worker,
            self.horse,
            self.cli,
            self.template,
            self.redis,
            self.stop,
            self.stop,
        ]
        while not self._over.wait(self.random.uniform(*PAUSE)):
            blow = self.random.choice(kinds)
            if blow():
                self.blows[blow.__name__] += 1

    def worker(self) -> bool:
        """Kill a worker, and start another one."""
        place = self.random.randrange(WORKERS)
        self.workers[place].kill()
        self.workers[place].wait(5)
        self.workers[place] = self.stack.line("worker")
        return True

    def horse(self) -> bool:
        """Kill a work-horse."""
        horses = [child for worker in self.workers for child in work_horses(worker.pid)]
        return bool(horses) and kill(self.random.choice(horses))

    def cli(self) -> bool:
        """Kill a CLI."""
        clis = [process for process in self.stack._processes() if "scripted_cli" in " ".join(command(process))]
        return bool(clis) and kill(self.random.choice(clis))

    def template(self) -> bool:
        """Kill the template of a worker, with the CLI that it has started or without."""
        templates = [process for process in self.stack._processes() if is_template(process)]
        return bool(templates) and kill(self.random.choice(templates))

    def redis(self) -> bool:
        """Kill Redis, and start it again after a while."""
        self.stack.processes[0].send_signal(signal.SIGKILL)
        self.stack.processes[0].wait(5)
        self._over.wait(self.random.uniform(0, 2))
        self.stack.processes[0] = self.stack.line("redis")
        self.stack.processes.pop()
        return True

    def stop(self) -> bool:
        """Stop a run, as a user would."""
        if not self.accepted:
            return False
        return self.stack.call("POST", f"/test-runs/{self.random.choice(self.accepted[-20:])}/stop").status in (
            200,
            202,
        )


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def kill(process: psutil.Process) -> bool:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def post(stack: Stack, task: str, key: str) -> str:
    """The ID of a run that was accepted; a request that was refused is sent again, as a client would."""
    path = f"/test-runs/execute-configuration/{task}/{task}_default"

    def accepted_id() -> str | None:
        answer = stack.call("POST", path, **{"Idempotency-Key": key})
        return str(answer.body["id"]) if answer.status in (200, 202) else None

    return wait_for(accepted_id, 60, f"a run of {task}") or ""


def told(project: Project, task: str) -> dict[str, list[str]]:
    """What the CLIs of the task have said that they did, per run."""
    words: dict[str, list[str]] = {}
    path = project.root / "tasks" / task / "notes"
    for line in path.read_text().splitlines() if path.exists() else ():
        run_id, word = line.split()
        words.setdefault(run_id, []).append(word)
    return words


def check_truth(run: dict[str, object], words: list[str], written: dict[str, object]) -> None:
    """The state is what the CLI really did."""
    about = f"seed {SEED}: {run['id']} is {run['current_state']}/{run['reason']}, its CLI told {words}"
    assert words.count("began") <= 1, f"two CLIs, {about}"
    assert run["current_state"] in FINAL, about
    status = written.get("status")
    expected = {"SUCCESSFUL": "FINISHED", "FAILED": "FAILED"}.get(str(status), "ERROR")
    assert run["current_state"] == expected, f"{about}, and wrote {status}"
    if "passed" in words or "failed" in words:
        assert expected != "ERROR", about
    if expected == "ERROR":
        assert run["reason"] in ("stopped", "interrupted", "cli_error"), about


@pytest.mark.timeout(RUNS * 4 + 240)
def test_nothing_is_lost_and_nothing_left_behind(project: Project, new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(STOP_GRACE="1")
    began = time.monotonic()
    for name in ("redis", "web"):
        stack.line(name)
    for name, behaviour in BEHAVIOURS.items():
        project.add_task(name, behaviour)
        project.add_task(f"{name}_too", behaviour)
    tasks = sorted(path.name for path in (project.root / "tasks").iterdir())
    accepted: list[str] = []

    def start(number: int) -> None:
        accepted.append(post(stack, tasks[number % len(tasks)], f"run {number}"))

    with Chaos(stack, accepted) as chaos:
        stack.wait_ready()
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(start, range(RUNS)))
        wait_for(lambda: count_open(stack) < RUNS // 4, RUNS * 3, "most runs to end")
    wait_for(lambda: count_open(stack) == 0, 120, f"the end of all runs, seed {SEED}")
    check_all(project, stack, accepted)
    left = [process for process in stack._processes() if "BUGNINJA_RUN_ID" in process.environ()]
    assert not left, f"seed {SEED}: {left}"
    report(stack, chaos, accepted, time.monotonic() - began)


def count_open(stack: Stack) -> int:
    answer = stack.call("GET", "/test-runs?status=PENDING")
    return int(answer.body["total_count"]) if answer.status == 200 else RUNS


def check_all(project: Project, stack: Stack, accepted: list[str]) -> None:
    words = {
        run_id: said for path in (project.root / "tasks").iterdir() for run_id, said in told(project, path.name).items()
    }
    files = {path.stem.rpartition("_")[2]: path for path in project.root.rglob("traverse_*.json")}
    listed = stack.call("GET", "/test-runs?page_size=200")
    assert listed.body["total_count"] == len(set(accepted)) == RUNS, f"seed {SEED}: accepted, and listed once each"
    assert set(files) <= set(accepted)
    for run_id in accepted:
        written = json.loads(files[run_id].read_bytes()) if run_id in files else {}
        check_truth(stack.run(run_id), words.get(run_id, []), written)


def report(stack: Stack, chaos: Chaos, accepted: list[str], seconds: float) -> None:
    ends = Counter((run["current_state"], run["reason"] or "") for run in map(stack.run, accepted))
    rows = [("runs accepted", len(accepted)), *((" ".join(end), count) for end, count in sorted(ends.items()))]
    rows += [(f"blows: {kind}", count) for kind, count in sorted(chaos.blows.items())]
    rows += [("seconds", round(seconds)), ("seed", SEED)]
    print("\n" + "\n".join(f"{name:28}{count:>8}" for name, count in rows))
