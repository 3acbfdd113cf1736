"""A stack whose processes watch their own steps, and die at one of them when they are told to."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.crash.points import VICTIMS, Point
from tests.crash.watcher import Orders, numbered
from tests.project import Project
from tests.stack import ROOT, Answer, Stack
from tests.waiting import wait_for

INJECT = Path(__file__).with_name("inject")
TASK = "t"


class Death(NamedTuple):
    """A process that is to die."""

    died: Path
    """A file that is there then, with the time."""
    line: str | None
    """The line of the Procfile that has to be started again."""


def process_of(kind: str) -> str:
    """Which process does steps of this kind."""
    return "worker" if kind in ("horse", "recovery") else kind


def environ_of(orders: Orders) -> dict[str, str]:
    return {"CRASH": json.dumps(orders._asdict())}


class Arena:
    """Starts the lines of the Procfile with orders, one after the other, and notes what clients were told."""

    def __init__(self, project: Project, stack: Stack, factor: float) -> None:
        self.project, self.stack, self.factor = project, stack, factor
        stack.environ["PYTHONPATH"] = f"{INJECT}{os.pathsep}{ROOT}"
        self.lines: dict[str, subprocess.Popen[bytes]] = {}
        self.orders: dict[str, list[Orders]] = {"web": [], "worker": [], "prune": []}
        self.notes = stack.folder / "steps"
        self.armed = stack.folder / "armed"
        self.accepted: list[str] = []
        self.pruned: list[str] = []
        self.unanswered = 0
        self.worker_started = 0.0
        self.deaths: list[Death] = []

    @property
    def task(self) -> Path:
        return self.project.root / "tasks" / TASK

    def record(self, process: str) -> None:
        """The next process of this kind notes its steps."""
        self._order(process, notes=str(self.notes), armed=str(self.armed))

    def kill_at(self, point: Point, victim: str) -> None:
        """The next process of this kind dies at this point."""
        died = self.stack.folder / f"died{len(self.deaths) + 1}"
        process, victims = process_of(point.kind), VICTIMS[point.kind][victim]
        falls = process in ("web", "worker") and ("parent" if point.kind == "horse" else "self") in victims
        self.deaths.append(Death(died, process if falls else None))
        self._order(
            process,
            kind=point.kind,
            name=point.name,
            number=point.number,
            victims=victims,
            died=str(died),
            armed=str(self.armed),
        )

    def wait_death(self, number: int = -1) -> float:
        """When it was, by the same clock as `time.monotonic` here. Waits until all who die then are dead."""
        died, line = self.deaths[number]
        moment = wait_for(lambda: died.exists() and died.read_text(), 40, f"the death {died}")
        if line is not None:
            self.lines[line].wait(10)
        return float(moment)

    def _order(self, process: str, **values: Any) -> None:
        self.orders[process].append(Orders(process, str(self.project.root), factor=self.factor, **values))

    def next_orders(self, process: str) -> Orders:
        waiting = self.orders[process]
        return waiting.pop(0) if waiting else Orders(process, str(self.project.root), factor=self.factor)

    def start(self, name: str) -> None:
        """Start a line of the Procfile, with the orders for it if there are any."""
        extra = environ_of(self.next_orders(name)) if name in self.orders else {}
        self.stack.environ |= extra
        self.lines[name] = self.stack.line(name)
        if name == "worker":
            self.worker_started = time.monotonic()
        for key in extra:
            del self.stack.environ[key]

    def revive(self) -> None:
        """Start what has died."""
        for name, process in list(self.lines.items()):
            if process.poll() is not None:
                self.start(name)
        self.wait_for_web()

    def wait_for_web(self) -> None:
        wait_for(lambda: self.stack.call("GET", "/health").status == 200, 60, f"a web process in {self.stack.folder}")

    def prune(self, *, orders: Orders | None = None) -> int:
        """Run the command; its exit code."""
        command = [sys.executable, "-m", "jobs.prune", "--yes"]
        environ = {**self.stack.environ, **environ_of(orders or self.next_orders("prune"))}
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, timeout=60, check=False)
        return done.returncode

    def post(self, path: str, **headers: str) -> Answer:
        """A request that starts a run; it may get no answer, as its server may die."""
        answer = self.stack.call("POST", path, **headers)
        if answer.status in (200, 202):
            self.accepted.append(answer.body["id"])
        else:
            assert answer.status == 0, answer
            self.unanswered += 1
        return answer

    def start_run(self, **headers: str) -> Answer:
        return self.post(f"/test-runs/execute-configuration/{TASK}/{TASK}_default", **headers)

    def start_batch(self) -> None:
        """Start a batch with one run of the task."""
        answer = self.stack.call("POST", "/batches", {"tasks": [TASK]})
        if answer.status == 202:
            self.accepted.append(answer.body["runs"][0]["id"])
        else:
            assert answer.status == 0, answer
            self.unanswered += 1

    def batches(self) -> list[Path]:
        """The files of batches, and the marks beside them."""
        return sorted((self.project.root / "batches").glob("*"))

    def wait_visited(self, run_id: str) -> None:
        """Until the CLI of the run has written its first step."""
        pattern = f"traverse_*_{run_id}.json"
        wait_for(
            lambda: list((self.task / "traversals").glob(pattern)), 40, f"a step of {run_id} in {self.stack.folder}"
        )

    def wait_recorded(self, run_id: str) -> None:
        """Until the record has the ID of the run's file, or somebody has died. It is written while the CLI runs: a CLI
        that ends before that would make the steps of its run a matter of luck."""
        record = self.task / "runs" / run_id / "run.json"
        wait_for(lambda: self.died() or b'"traversal_id":"' in record.read_bytes(), 40, f"the file of {run_id}")

    def died(self) -> bool:
        """Whether somebody has died."""
        return any(death.died.exists() for death in self.deaths)

    def outcome(self, run_id: str) -> dict[str, Any] | None:
        """How the run ended, by its record; None as long as it has not."""
        try:
            record = json.loads((self.task / "runs" / run_id / "run.json").read_bytes())
        except FileNotFoundError:
            return None
        outcome: dict[str, Any] | None = record.get("outcome")
        return outcome

    def wait_outcome(self, run_id: str, seconds: float) -> dict[str, Any]:
        """The same, as soon as it has ended."""
        return wait_for(lambda: self.outcome(run_id), seconds, f"the end of {run_id} in {self.stack.folder}") or {}

    def run_ids(self) -> list[str]:
        """All runs of the task that are on the disk."""
        runs = self.task / "runs"
        return sorted(path.name for path in runs.iterdir() if path.name[0] != ".") if runs.exists() else []

    def unfinished(self) -> list[str]:
        """Folders that a dead process has left half made, or half deleted."""
        return [path.name for path in (self.task / "runs").iterdir() if path.name.startswith((".new-", ".gone-"))]

    def told(self) -> list[tuple[str, str]]:
        """What the CLIs said that they did: run and word."""
        notes = self.task / "notes"
        lines = notes.read_text().splitlines() if notes.exists() else []
        return [(line.split()[0], line.split()[1]) for line in lines]

    def arm(self) -> None:
        """From now on steps count."""
        self.armed.touch()
        (self.task / "armed").touch()

    def go(self) -> None:
        """Let CLIs that wait go on."""
        (self.task / "go").touch()

    def wait_idle(self, rounds: int) -> None:
        """Until no job has a turn, the worker has nothing to do, and has recovered so many times since."""
        redis, pid = self.stack.redis, self.lines["worker"].pid
        wait_for(lambda: not redis.zcard(f"rq:rl:bugninja:{TASK}:allowed"), 60, "the end of all turns")
        (worker,) = [key for key in redis.keys("rq:worker:*") if f"-{pid}-" in str(key)]
        wait_for(lambda: redis.hget(worker, "state") == b"idle", 60, "a worker with nothing to do")
        begun = self._sweeps()
        wait_for(lambda: self._sweeps() >= begun + rounds, 60, "more rounds of recovery")

    def _sweeps(self) -> int:
        """How many rounds of recovery workers of this machine have begun."""
        (key,) = self.stack.redis.keys("bugninja-runner:machine:*")
        return int(self.stack.redis.hget(key, "begun") or 0)

    def end(self) -> None:
        """End worker and web, so that all their steps are noted."""
        for name in ("worker", "web"):
            self.lines[name].terminate()
            self.lines[name].wait(10)

    def noted(self, kinds: tuple[str, ...]) -> list[str]:
        """The steps of these kinds, numbered."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return numbered(line for line in lines if line.split()[0] in kinds)
