"""Runs in the files of a project, for tests: written as the CLI writes them, read as the stack shows them."""

import errno
import json
import os
import time
import zlib
from pathlib import Path
from typing import Any

from redis import Redis

from runner.ids import RunId, TaskId
from runner.project.run_folder import RunFolder
from tests.unit.fake_stack import FakeStack

DAY = 24 * 3600
STAMP = "20260101_080000"
OTHER, THIRD = "o" * 24, "t" * 24  # IDs of runs that were made by hand


FRONT_END = "http://localhost:5173"

ORDER_TOML = """
[task]
name = "Order form"
description = "Fill in hunter2-secret"
start_url = "https://someone:url-secret@shop.example/"
extra_instructions = ["Be quick", "Type hunter2-secret", 3]
allowed_domains = ["shop.example"]
priority = "high"
category = "payments"
[secrets]
PASSWORD = "hunter2-secret"
OTHER = "other-secret"
[run_config]
viewport_width = 800
viewport_height = 600
user_agent = "me"
[run_config.geolocation]
latitude = 47.5
longitude = 19
[metadata]
task_id = "c2v4m8k1r7q0x5w9t3z6b1n8"
created_date = "2026-11-23T03:07:37.606113+00:00Z"
"""
"""A task file with all that there can be."""


def by_hand(name: str) -> str:
    """The ID of a run that was made by hand."""
    return f"h{name}".ljust(24, "0")


def write_run(folder: Path, stamp: str, run_id: str, content: bytes, age: float = 0) -> Path:
    """A traversal as a person's own CLI leaves it; `age` is how many seconds ago it last changed.

    It is put in place at once, with its time: the stack may look at any moment.
    """
    path = folder / "traversals" / f"traverse_{stamp}_{run_id}.json"
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    os.utime(temporary, (time.time() - age, time.time() - age))
    return temporary.replace(path)


def listed(stack: FakeStack, query: str = "") -> Any:
    """The answer to `GET /test-runs`."""
    response = stack.client.get(f"/test-runs{query}")
    assert response.status_code == 200, response.text
    return response.json()


def ids(page: Any) -> list[str]:
    """The IDs of the runs on the page."""
    return [item["id"] for item in page["items"]]


def run_folder(stack: FakeStack, run_id: str, task: str = "buy") -> RunFolder:
    """The folder that is kept for the run."""
    return RunFolder(stack.settings.tasks_root, TaskId(task), RunId(run_id))


def change_record(stack: FakeStack, run_id: str, /, **changes: Any) -> None:
    """Replace these fields (as JSON) in the record on the disk."""
    folder = run_folder(stack, run_id)
    folder.write_record(json.dumps({**json.loads(folder.record.read_bytes()), **changes}).encode())


def full_disk(*_: object) -> None:
    """What a write to a full disk raises."""
    raise OSError(errno.ENOSPC, "No space left on device")


def jobs_as_text(redis: Redis) -> str:
    """All that Redis has of all jobs, also what RQ has compressed."""
    hashes: list[dict[bytes, bytes]] = [redis.hgetall(key) for key in redis.keys("rq:job:*")]  # type: ignore[misc]
    return repr([{**fields, b"data": zlib.decompress(fields[b"data"])} for fields in hashes])


def start_buy(stack: FakeStack, **headers: str) -> Any:
    """The answer to a POST that starts a run of the task `buy`."""
    return stack.client.post("/test-runs/execute-configuration/buy/buy_default", headers=headers)
