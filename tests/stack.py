"""Real processes of the stack: the Procfile's own lines, on free ports, in a temporary folder, all ended afterwards."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from honcho.environ import parse_procfile
from redis import Redis

from tests.project import Project
from tests.waiting import wait_for

ROOT = Path(__file__).parents[1]
MARK = "RUNNER_TEST_STACK"  # every process of a stack inherits it, so that none can hide
TEMPLATE = ROOT / "runner" / "cli" / "template.py"
FINAL = ("FINISHED", "FAILED", "ERROR")
LEAVE_SECONDS = 5.0  # 4 in which a worker leaves, and one more, since other tests may keep the machine busy


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    body: Any
    headers: dict[str, str]


class Event(NamedTuple):
    """A server-sent event."""

    id: str
    data: Any


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    """The processes of one stack. `environ` is what all of them get."""

    def __init__(self, project: Project, folder: Path, **changes: str) -> None:
        self.project, self.folder = project, folder
        self.mark = uuid.uuid4().hex
        self.port, self.redis_port = free_port(), free_port()
        self.environ = {
            "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            MARK: self.mark,
            "REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0",
            "REDIS_DATA": str(folder / "redis"),
            "PORT": str(self.port),
            **project.environ(**{"RUNNER_WARM": "on", **changes}),
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def redis(self) -> "Redis":
        """A connection to the stack's Redis."""
        return Redis(port=self.redis_port, socket_timeout=5)

    def start(self, *command: str, log: str, folder: Path = ROOT) -> subprocess.Popen[bytes]:
        """Start a command in this folder and a session of its own, printing into `log`."""
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def line(self, name: str) -> subprocess.Popen[bytes]:
        """Start one line of the Procfile alone, as a shell would."""
        command = parse_procfile((ROOT / "Procfile").read_text()).processes[name]
        return self.start("sh", "-c", command, log=f"{name}.log")

    def launch(self, *words: str) -> subprocess.Popen[bytes]:
        """Start the whole Procfile, or these lines of it."""
        return self.start("python", "-m", "jobs.stack", "-e", os.devnull, "start", *words, log="stack.log")

    def log(self, name: str) -> str:
        """What a process has printed so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One HTTP request, with a body as JSON if there is one; `Answer(0, None, {})` if nobody listens."""
        content = None if body is None else json.dumps(body).encode()
        headers = headers if body is None else {"Content-Type": "application/json", **headers}
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return Answer(response.status, json.loads(response.read()), dict(response.headers))
        except urllib.error.HTTPError as error:
            with error:
                content = error.read()
                return Answer(error.code, json.loads(content) if content else None, dict(error.headers))
        except OSError:
            return Answer(0, None, {})

    def text(self, path: str) -> str:
        """The body of a GET, as text."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            body: bytes = response.read()
        return body.decode()

    def listen(self, path: str, **headers: str) -> Iterator[Event]:
        """The server-sent events of the path, until the server ends them."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        fields: dict[str, str] = {}
        with urllib.request.urlopen(request, timeout=30) as response:
            for line in response:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif "data" in fields:
                    yield Event(fields.get("id", ""), json.loads(fields["data"]))
                    fields = {}

    def wait_ready(self) -> None:
        """Wait until runs would be executed."""
        wait_for(lambda: self.call("GET", "/ready").status == 200, 60, f"/ready in {self.folder}")

    def post(self, task: str) -> str:
        """Start a run of the task; returns its ID."""
        answer = self.call("POST", f"/test-runs/execute-configuration/{task}/{task}_default")
        assert answer.status == 202, answer
        return str(answer.body["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """The run's document."""
        answer = self.call("GET", f"/test-runs/{run_id}")
        assert answer.status == 200, answer
        assert isinstance(answer.body, dict)
        return answer.body

    def wait_state(self, run_id: str, *states: str, seconds: float = 60) -> dict[str, Any]:
        """The run's document once it is in one of the states."""
        wait_for(lambda: self.run(run_id)["current_state"] in states, seconds, f"{states} of {run_id} in {self.folder}")
        return self.run(run_id)

    def wait_final(self, run_id: str, seconds: float = 60) -> dict[str, Any]:
        """The run's document once its state is final."""
        return self.wait_state(run_id, *FINAL, seconds=seconds)

    def living(self) -> list[str]:
        """The command lines of all processes of this stack that live, except for templates of the CLI."""
        lines = []
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                if not is_template(process):
                    lines.append(" ".join(process.cmdline()))
        return lines

    def processes_with(self, variable: str, value: str) -> list[psutil.Process]:
        """All living processes of this stack that have this in their environment."""
        return [process for process in self._processes() if _environ(process).get(variable) == value]

    def close(self) -> None:
        """End everything that was started, and everything that this started in turn."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(8)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(8)
        for left in self._processes():
            left.kill()

    def _processes(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return _environ(process).get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def work_horses(worker: int) -> list[psutil.Process]:
    """The children of the worker with this PID, except for the template of its CLI."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child for child in psutil.Process(worker).children() if not is_template(child)]
    return []


def is_template(process: psutil.Process) -> bool:
    """Whether it is a process that has imported the CLI, and forks for each run."""
    with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
        return str(TEMPLATE) in process.cmdline()
    return False


def _environ(process: psutil.Process) -> dict[str, str]:
    """The environment of a process; empty if it is gone, or another user's."""
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}
