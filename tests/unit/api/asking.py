"""Ask everything about a task, and take no answer that says too much, nothing at all, or that the server has failed."""

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from runner.ids import RunId
from tests.unit.fake_stack import FakeStack

SECONDS = 10.0  # for one request
OVER, OPEN, MADE = (RunId(name.ljust(24, "0")) for name in ("over", "open", "made"))
PICTURE = "screenshots/run/001.png"


def of(run_id: str, task: str) -> RunId:
    """A run of each task has an ID of its own."""
    return RunId(f"{run_id[:12]}{task:0<12}")


class Asker:
    """Asks the stack, and takes no answer that says too much, nothing at all, or that the server has failed."""

    def __init__(self, stack: FakeStack, planted: Sequence[str]) -> None:
        """None of the planted texts may be in an answer."""
        self._stack, self._planted = stack, planted
        self._threads = ThreadPoolExecutor(1)

    def __call__(self, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        asked = self._threads.submit(self._ask, method, path, headers)
        try:
            response: httpx.Response = asked.result(SECONDS)
        except TimeoutError:
            for fifo in filter(Path.is_fifo, self._stack.project.root.rglob("*")):
                os.close(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))  # lets go who waits there
            raise AssertionError(f"{method} {path} hangs") from None
        assert response.status_code != 500, f"{method} {path}: {response.text}"
        assert not any(text in response.text for text in self._planted), f"{method} {path}: {response.text}"
        if method != "HEAD" and "json" in response.headers.get("content-type", ""):
            json.loads(response.content, parse_constant=pytest.fail)
        return response

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> httpx.Response:
        self._stack.client.read_all()
        response: httpx.Response = self._stack.client.request(method, path, headers=headers)
        return response

    def everything(self, task: str) -> None:
        """All that can be asked about a task and its runs."""
        for run_id in (of(run, task) for run in (OVER, OPEN, MADE)):
            for path in ("", "/log", "/log?tail=5"):
                self(f"/test-runs/{run_id}{path}")
            self(f"/test-runs/{run_id}/log", "HEAD", Range="bytes=0-3")
        for path in (f"/tasks/{task}", f"/test-runs/test-case/{task}", f"/tasks/{task}/{PICTURE}"):
            self(path)
        for path in (
            f"execute-configuration/{task}/{task}_default",
            f"replay/{task}/{task}_default",
            f"{of(OVER, task)}/rerun",
            f"replay-run/{of(MADE, task)}",
            f"{of(OPEN, task)}/stop",
        ):
            self(f"/test-runs/{path}", "POST")

    def lists(self) -> Any:
        """The IDs in the list of all runs; everything else that is about all tasks is asked for, too."""
        for path in ("/tasks", "/project", "/browser-types", "/ready", "/metrics"):
            self(path)
        for kind in ("browser-configs", "secret-values"):
            self(f"/{kind}/project/project")
        return [item["id"] for item in self("/test-runs?page_size=200").json()["items"]]
