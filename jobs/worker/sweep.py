"""End what is left on this machine of runs that are over, and tell the other machines in Redis how far that has
come."""

import logging
from collections.abc import Iterator

from redis import Redis
from redis.exceptions import RedisError

from jobs.queue.records import read_record
from runner.cli.machine import machine_id
from runner.cli.process import end_processes, runs_with_processes
from runner.errors import RecordUnreadable
from runner.log import log_event
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder

SILENT_SECONDS = 60  # after which a machine that has not swept counts as switched off, and its processes as gone


def machine_key(machine: str) -> str:
    """The Redis hash with the number of sweeps that this machine has `begun`, and of the last one that was `done`."""
    return f"bugninja-runner:machine:{machine}"


def sweep(files: RunFiles, redis: Redis) -> Iterator[None]:
    """End all processes of runs of this project that are over, or deleted; one run at each step. Redis may be away."""
    number, left = _begin(redis), 0
    for path in runs_with_processes():
        folder = files.folder_at(path)
        if folder is not None:
            left += _sweep(folder)
            yield
    if number is not None and not left:
        redis.hset(machine_key(machine_id()), "done", str(number))


def _begin(redis: Redis) -> int | None:
    """The number of this sweep; None if Redis does not answer."""
    try:
        with redis.pipeline() as pipeline:
            pipeline.hincrby(machine_key(machine_id()), "begun", 1)
            pipeline.expire(machine_key(machine_id()), SILENT_SECONDS)
            return int(pipeline.execute()[0])
    except RedisError:
        return None


def _sweep(folder: RunFolder) -> int:
    """How many processes of the run are left that should not be."""
    try:
        record = read_record(folder)
    except (OSError, RecordUnreadable):
        return 0
    if record is not None and record.outcome is None:
        return 0
    left = end_processes(folder.path)
    log_event("swept", level=logging.WARNING, run=folder.run_id, task=folder.task_id, left=left)
    return left


class Sweeps:
    """Whether another machine has swept since a run was found to be over. No clocks are compared, only numbers."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._noted: dict[str, int] = {}

    def note(self, run_id: str, machine: str | None) -> None:
        """The run is over now. Raises redis's errors."""
        self._noted[run_id] = self._numbers(machine)[0] if machine is not None else 0

    def since_noted(self, run_id: str, machine: str) -> bool:
        """Whether a sweep of the machine that began after that is done, or the machine is silent for so long that it
        must be switched off. Raises redis's errors."""
        begun, done = self._numbers(machine)
        if begun and done <= self._noted.get(run_id, begun):
            return False
        self._noted.pop(run_id, None)
        return True

    def _numbers(self, machine: str) -> tuple[int, int]:
        begun, done = self._redis.hmget(machine_key(machine), "begun", "done")
        return int(begun or 0), int(done or 0)
