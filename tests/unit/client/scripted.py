"""A runner that does what a test says: it plays the calls of batches from one document that the test changes."""

import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

BATCH = "batchbatchbatchbatchbatc"
OVER = ("FINISHED", "FAILED", "ERROR")
ENDS = {"FINISHED": "passed", "FAILED": "failed", "ERROR": "error", "PENDING": "pending", "RUNNING": "running"}
DROP = (0, b"")
"""An answer that is none: the connection is closed."""
CUT = (-1, b'{"id": ')
"""An answer of which only the beginning arrives."""


class Asked(NamedTuple):
    """A request that came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def a_run(task: str = "login", state: str = "PENDING", **more: Any) -> dict[str, Any]:
    """A run as it is in the document of a batch."""
    return {
        "id": f"run{task}", "task_id": task, "test_name": f"Test of {task}", "file": f"tasks/{task}/task_{task}.toml",
        "current_state": state, "reason": None, "message": None, "started_at": None, "finished_at": None,
        "duration": 3.1 if state in OVER else None, "steps": 0, "last_goal": None, "failed_action": None, "failed_url": None, **more,
    }  # fmt: skip


def a_batch(*runs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The document of a batch of these runs."""
    states = [run["current_state"] for run in runs]
    counts = {name: [ENDS[state] for state in states].count(name) for name in ENDS.values()}
    if all(state in OVER for state in states):
        state = next((state for state in ("FAILED", "ERROR") if state in states), "FINISHED")
    else:
        state = "PENDING" if set(states) == {"PENDING"} else "RUNNING"
    return {
        "id": BATCH, "name": "", "current_state": state, "stopping": False, "labels": {}, "mode": "agentic",
        "fail_fast": None, "rerun_of": None, "queued_at": "2026-11-26T08:00:00.5Z", "started_at": None, "finished_at": None,
        "duration": 4.2 if state in OVER else None, "counts": {"total": len(runs), **counts, "stopped": 0},
        "runs": list(runs), "dropped": [], "stale": False, **more,
    }  # fmt: skip


def one_run(state: str, **more: Any) -> dict[str, Any]:
    """The document of a single run."""
    return {
        "id": "runlogin", "test_case": {"id": "login", "test_name": "Log in"}, "current_state": state, "reason": None,
        "error_message": None, "queued_at": None, "started_at": None, "finished_at": None, "duration": None,
        "labels": {}, "stopping": False, "stale": False, "progress": {"steps": 2, "last_goal": "Look"}, "failure": None, **more,
    }  # fmt: skip


class ScriptedRunner:
    """Listens on a free port. Change what it says by `become`; `answers` go before what it would say."""

    def __init__(self, document: dict[str, Any], port: int = 0) -> None:
        self.document = document
        self.changed = threading.Condition()
        self.asked: list[Asked] = []
        self.next: dict[str, list[tuple[int, bytes]]] = {}
        """What the next requests, such as `GET /stats`, are answered: each is used once."""
        self.always: dict[str, tuple[int, bytes]] = {
            "GET /ready": (200, b'{"status": "ready", "redis": true, "workers": 1}'),
            "GET /stats": (200, b'[{"task_id": "login", "duration": {"p50": 4.0}}]'),
        }
        self.tag = True
        runner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def do_GET(self) -> None:
                runner.answer(self)

            def do_POST(self) -> None:
                runner.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        ThreadingHTTPServer.daemon_threads = True
        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients leave as they like
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self.become(self.document, over=True)
        self.server.shutdown()
        self.server.server_close()

    def become(self, document: dict[str, Any], over: bool = False) -> None:
        """Say this from now on, also to who waits."""
        with self.changed:
            self.document, self.is_closed, self.over_at = document, over, time.monotonic()
            self.changed.notify_all()

    def requests(self, start: str) -> list[Asked]:
        """The requests that begin so, such as `POST /batches`."""
        return [asked for asked in self.asked if f"{asked.method} {asked.path}".startswith(start)]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"] or 0))
        self.asked.append(Asked(handler.command, handler.path, dict(handler.headers.items()), body))
        path = urlsplit(handler.path).path
        name = f"{handler.command} {path}"
        if self.next.get(name):
            self.send(handler, *self.next[name].pop(0))
        elif name in self.always:
            self.send(handler, *self.always[name])
        elif path.endswith("/events"):
            self.stream(handler)
        elif name == "POST /batches" or path.endswith("/rerun"):
            self.send(handler, 202, json.dumps(self.document).encode())
        elif name == f"GET /{'batches' if 'runs' in self.document else 'test-runs'}/{self.document['id']}":
            self.poll(handler)
        else:
            self.send(handler, 404, b'{"detail": "There is no such thing."}')

    def send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        handler.close_connection = True
        if not status:
            return
        handler.send_response(abs(status) if status > 0 else 200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body) + 10 * (status < 0)))
        handler.send_header("Location", "http://elsewhere.example/")
        if self.tag:
            handler.send_header("ETag", f'"{hash(body)}"')
        handler.end_headers()
        handler.wfile.write(body)

    def poll(self, handler: BaseHTTPRequestHandler) -> None:
        with self.changed:
            before = json.dumps(self.document).encode()
            asked_for = handler.headers["If-None-Match"]
            if "wait=" in handler.path and asked_for in (None, f'"{hash(before)}"') and not self.is_over:
                self.changed.wait(10)
            self.send(handler, 200, json.dumps(self.document).encode())

    def stream(self, handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(b": hello\n\n")
        with self.changed:
            while True:
                handler.wfile.write(b"id: 1\ndata: " + json.dumps(self.document).encode() + b"\n\n")
                handler.wfile.flush()
                self.streaming = True
                if self.is_over:
                    return
                self.changed.wait()

    is_closed = False
    streaming = False
    over_at = 0.0

    @property
    def is_over(self) -> bool:
        return self.is_closed or self.document["current_state"] in OVER
