"""Keep a run's metadata in Redis, too, and tell whoever watches runs, on any machine, that one has changed.

That is a hint: what is true stands on the disk.
"""

from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import DeserializationError
from rq.job import Job

from jobs.run.record import RunRecord, record_to_job_meta
from runner.ids import TaskId, parse_task_id
from runner.log import log_event


def changes_channel(queue_name: str) -> str:
    """The Redis channel on which the IDs of runs of this queue are published that have just changed."""
    return f"bugninja-runner:changed:{queue_name}"


def publish_change(redis: Redis, queue_name: str, run_id: str) -> None:
    """Say that the run has changed. Nobody has to hear it, so an error is none."""
    try:
        redis.publish(changes_channel(queue_name), run_id)
    except RedisError as error:
        log_event("change_not_told", run=run_id, because=error)


def task_of_job(job: Job) -> TaskId | None:
    """The task that the job is about; None for a job of somebody else, whatever stands in it."""
    try:
        kwargs = job.kwargs
    except DeserializationError:
        return None
    return parse_task_id(str(kwargs.get("task_id"))) if isinstance(kwargs, dict) else None


def save_to_job(job: Job, meta: RunRecord) -> None:
    """Keep the metadata in the job, and say that the run has changed. Raises redis's errors."""
    job.meta = record_to_job_meta(meta)
    job.save_meta()
    publish_change(job.connection, job.origin, meta.run_id)
