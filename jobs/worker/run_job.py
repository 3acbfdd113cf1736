"""The RQ job as our workers see it."""

from collections.abc import Callable
from typing import Any

from redis.client import Pipeline
from rq.results import Result

from jobs.queue.job import EXECUTE_RUN
from jobs.worker.execute import ClaimedJob, execute_run

EARLIER_NAMES = ("jobs.execute.execute_run",)  # of `execute_run`, in jobs that were enqueued before an upgrade


class RunJob(ClaimedJob):
    """A job that can only be a run: the content of Redis cannot make a worker call anything else."""

    success_callback = failure_callback = stopped_callback = property(lambda self: None)  # runs have no callbacks

    @property
    def func(self) -> Callable[[str], str]:
        """Always ours, imported before the worker forks."""
        return execute_run

    def perform(self) -> Any:
        """The function's value. Raises `ValueError` if the job names another function than ours."""
        if self.func_name not in (EXECUTE_RUN, *EARLIER_NAMES):
            raise ValueError(f"this worker only calls {EXECUTE_RUN}, and the job wants {self.func_name}")
        return super().perform()

    def _handle_success(self, result_ttl: int, pipeline: Pipeline, *args: Any, **kwargs: Any) -> None:
        """As RQ's, without keeping the function's value: the run's record says how it ended, and a result takes more
        memory than all the rest of the job (Redis gives each stream 4 kB)."""
        super()._handle_success(result_ttl, pipeline, *args, **kwargs)
        pipeline.delete(Result.get_key(self.id))
