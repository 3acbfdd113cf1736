"""What the runner says of batches and runs, and the calls for it. A single run is a batch of one."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from runner.client.connection import Connection, Failed, Refused, Unreachable

Kind = Literal["batches", "test-runs"]
JSON = dict[str, Any]
PAGES: dict[Kind, str] = {"batches": "/ui/batches/", "test-runs": "/ui/runs/"}
CODES = {"FINISHED": 0, "FAILED": 1, "ERROR": 3}
COUNTS = ("total", "pending", "running", "passed", "failed", "error", "stopped")
NO_RUNNER = "The answer is not that of a runner, or of one with another version."
AN_ID = r"[A-Za-z0-9_-]{1,64}"


class Run(NamedTuple):
    """A run of a batch."""

    id: str
    task: str
    state: str
    reason: str
    message: str
    duration: float | None
    started_at: float | None
    steps: int
    goal: str
    action: str
    place: str
    """The URL at which it failed, or the path of that."""

    @property
    def over(self) -> bool:
        """Whether its state is final."""
        return self.state in CODES

    @property
    def passed(self) -> bool:
        """Whether its test passed."""
        return self.state == "FINISHED"


class Batch(NamedTuple):
    """A batch as it was at one moment."""

    kind: Kind
    id: str
    state: str
    counts: Mapping[str, int]
    runs: tuple[Run, ...]
    document: JSON
    """The whole document of the batch."""

    @property
    def over(self) -> bool:
        """Whether all of its runs are."""
        return self.state in CODES

    @property
    def code(self) -> int:
        """The exit code for a batch that is over."""
        return CODES[self.state]

    @property
    def path(self) -> str:
        """Where the runner shows it as JSON."""
        return f"/{self.kind}/{self.id}"

    @property
    def page(self) -> str:
        """Where the runner shows it to people."""
        return PAGES[self.kind] + self.id

    @property
    def to_explain(self) -> list[Run]:
        """The runs that are over and did not pass."""
        return [run for run in self.runs if run.over and not run.passed]


def as_batch(kind: Kind, document: Any) -> Batch:
    """The batch of a document. Raises `Failed` if it is the document of something else."""
    try:
        if kind == "test-runs":
            document = batch_of_one(document)
        runs = tuple(as_run(run) for run in document["runs"])
        counts = {name: int(document["counts"][name]) for name in COUNTS}
        return Batch(kind, checked_id(document["id"]), str(document["current_state"]), counts, runs, document)
    except (LookupError, TypeError, ValueError, AttributeError):
        raise Failed(NO_RUNNER) from None


def as_run(document: JSON) -> Run:
    """A run as the batch shows it."""
    return Run(
        checked_id(document["id"]),
        text(document.get("task_id")),
        str(document["current_state"]),
        text(document.get("reason")),
        text(document.get("message")),
        document.get("duration"),
        seconds_since_1970(document.get("started_at")),
        int(document.get("steps") or 0),
        text(document.get("last_goal")),
        text(document.get("failed_action")),
        text(document.get("failed_url")),
    )


def batch_of_one(run: JSON) -> JSON:
    """The document of a batch that has this run only, from the document of the run."""
    state, failure, task = run["current_state"], run.get("failure") or {}, run.get("test_case") or {}
    names = {"PENDING": "pending", "RUNNING": "running", "FINISHED": "passed", "FAILED": "failed", "ERROR": "error"}
    name = "stopped" if run.get("reason") == "stopped" else names[state]
    part = {key: run.get(key) for key in ("id", "current_state", "reason", "started_at", "finished_at", "duration")}
    progress = run.get("progress") or {}
    part |= {
        "task_id": task.get("id"),
        "test_name": task.get("test_name"),
        "message": None if state == "FINISHED" else run.get("error_message"),
        "steps": progress.get("steps", 0),
        "last_goal": progress.get("last_goal") if state == "RUNNING" else None,
        "failed_action": failure.get("action"),
        "failed_url": failure.get("url"),
    }
    whole = {key: run.get(key) for key in ("id", "current_state", "stopping", "labels", "stale")}
    whole |= {key: run.get(key) for key in ("queued_at", "started_at", "finished_at", "duration")}
    counts = {**dict.fromkeys(COUNTS, 0), "total": 1, name: 1}
    return {**whole, "name": "", "counts": counts, "runs": [part], "dropped": []}


def checked_id(value: Any) -> str:
    """An ID, which is safe in a path. Raises `ValueError` for anything else."""
    if not re.fullmatch(AN_ID, value):
        raise ValueError
    return str(value)


def text(value: Any) -> str:
    """A text, empty for null."""
    return "" if value is None else str(value)


def seconds_since_1970(value: Any) -> float | None:
    """A time of RFC 3339; None for null."""
    return None if value is None else datetime.fromisoformat(value).timestamp()


class Api:
    """The calls."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def find(self, name: str) -> Batch:
        """The batch with this ID, or the run. Raises `Failed`, also if there is none."""
        try:
            return self.read("batches", name)
        except Refused as error:
            if error.status != 404:
                raise
        try:
            return self.read("test-runs", name)
        except Refused as error:
            if error.status != 404:
                raise
            raise Refused(404, f"There is no batch and no run {name}.") from None

    def read(self, kind: Kind, name: str) -> Batch:
        """A batch, or a run."""
        return as_batch(kind, self.connection.get(f"/{kind}/{quote(name, '', errors='replace')}").json())

    def start(self, kind: Kind, path: str, body: JSON, key: Callable[[bytes], str]) -> tuple[Batch, bool]:
        """The batch that this POST starts, or did before; and which of both. The key is made of the request."""
        content = json.dumps(body, sort_keys=True).encode()
        header = {"Idempotency-Key": key(path.encode() + b"\n" + content)}
        answer = self.connection.ask("POST", path, content, header)
        return as_batch(kind, answer.json()), answer.status == 200

    def stop(self, batch: Batch) -> Batch:
        """The batch, of which the server now stops what is not over. Raises `Refused` if all of it is."""
        return as_batch(batch.kind, self.connection.ask("POST", f"{batch.path}/stop").json())

    def medians(self) -> dict[str, float]:
        """How many seconds a run of each task takes; empty if the server does not say so at once."""
        try:
            found = self.connection.once("GET", "/stats").json()
            return {str(task["task_id"]): float(task["duration"]["p50"]) for task in found if task["duration"]["p50"]}
        except (Failed, LookupError, TypeError, ValueError):
            return {}

    def missing(self, workers_only: bool = False) -> str:
        """Why no run would be executed now; empty if one would be. An unreachable server says nothing."""
        try:
            answer = self.connection.once("GET", "/ready")
            document = answer.json()
            if answer.status != 503 or (workers_only and document["redis"] is False):
                return ""
            return str(document["detail"])
        except (Unreachable, LookupError, TypeError):
            return ""
