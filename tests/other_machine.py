"""Workers that believe to be on a machine of their own, whose clocks tick faster than the real ones.

Python imports `sitecustomize` at its start; here that calls `pretend`. All that such a worker starts inherits it.
"""

import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psutil

from tests.stack import ROOT, Stack

MACHINE, CONSTANTS = "RUNNER_TEST_MACHINE", "RUNNER_TEST_CONSTANTS"
REAL: Mapping[str, float] = {}
QUICK: Mapping[str, float] = {
    # the real ones are: beats each 3 s that hold for 9 s, rounds each 5 s, a leader for 10 s, silence of 60 s
    "jobs.queue.heartbeat.HEARTBEAT_TTL": 3,
    "jobs.worker.worker.HEARTBEAT_SECONDS": 0.5,
    "jobs.worker.worker.ROUND_SECONDS": 1.5,
    "jobs.worker.recover.LEAD_SECONDS": 4,
    "jobs.worker.sweep.SILENT_SECONDS": 7,
}


def new_machine(
    new_stack: Callable[..., Stack],
    stack: Stack,
    name: str,
    *,
    redis_port: int | None = None,
    constants: Mapping[str, float] = QUICK,
) -> Stack:
    """Another machine of the same stack: its lines use the same Redis, through this port if one is given."""
    machine = new_stack()
    site = machine.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("from tests.other_machine import pretend\n\npretend()\n")
    machine.environ |= {
        "PYTHONPATH": f"{site}:{ROOT}",
        "REDIS_URL": f"redis://127.0.0.1:{redis_port or stack.redis_port}/0",
        MACHINE: name,
        CONSTANTS: json.dumps(dict(constants)),
    }
    return machine


def pretend() -> None:
    """Make this process one of the machine that its environment names: it has that name, and sees no other
    processes. A CLI needs none of that."""
    if "BUGNINJA_RUN_FOLDER" in os.environ:
        return
    from runner.cli import machine

    name, all_processes = os.environ[MACHINE], psutil.process_iter

    def processes_here(*args: Any, **kwargs: Any) -> Iterator[psutil.Process]:
        return (process for process in all_processes(*args, **kwargs) if _machine_of(process) == name)

    machine.machine_id = lambda: name  # type: ignore[assignment]
    psutil.process_iter = processes_here  # type: ignore[assignment]
    for path, value in json.loads(os.environ[CONSTANTS]).items():
        module, _, constant = path.rpartition(".")
        setattr(importlib.import_module(module), constant, value)


def _machine_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MACHINE)
    except (psutil.Error, OSError):
        return None
