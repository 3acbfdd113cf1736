"""Stop runs at a user's request. The request stands on the disk, where the worker that has the run looks for it."""

from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from jobs.queue.job import publish_change, save_to_job
from jobs.queue.records import close_run
from jobs.run.record import RunRecord, record_from_json
from jobs.run.verdict import STOPPED, cut_off
from runner.errors import NotPossible, StorageUnavailable
from runner.ids import RunId, check_run_id
from runner.log import log_event
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder
from runner.settings import Settings


class RunStopper:
    """Stops the runs of one project."""

    def __init__(self, settings: Settings, redis: Redis, files: RunFiles) -> None:
        self._settings = settings
        self._redis = redis
        self._files = files

    def stop(self, text: str) -> RunId:
        """Have the run ended; the ID of it. May be asked again while it is ending.

        A run that has not started is over at once, one that a worker has within STOP_GRACE and a moment. Raises
        `NotFound`, `NotPossible` for a run that is over or not ours, `StorageUnavailable`.
        """
        folder = self._find(text)
        try:
            with folder.lock():
                meta = record_from_json(folder.read_record() or b"")
                if meta is None:
                    raise NotPossible(f"Run '{folder.run_id}' was made by hand with the CLI; stop it where it runs.")
                if meta.outcome is not None:
                    raise NotPossible(f"Run '{folder.run_id}' is over already: it is {meta.outcome.state}.")
                folder.request_stop()
        except OSError as error:
            raise StorageUnavailable(
                f"The run cannot be stopped: its folder is not usable ({error.strerror})."
            ) from None
        log_event("stop_requested", run=folder.run_id, task=folder.task_id)
        publish_change(self._redis, self._settings.queue_name, folder.run_id)
        if meta.started_at is None:  # and from now on no worker will start it
            self._take_back(close_run(folder, meta, cut_off(STOPPED), None))
        return folder.run_id

    def _find(self, text: str) -> RunFolder:
        run_id = check_run_id(text)
        task_id = self._files.task_of(run_id)
        folder = RunFolder(self._settings.tasks_root, task_id, run_id)
        if not folder.path.is_dir():
            raise NotPossible(f"Run '{run_id}' was made by hand with the CLI; stop it where it runs.")
        return folder

    def _take_back(self, meta: RunRecord) -> None:
        """Take the run's job out of the queue. If that fails, a worker finds that the run is over and leaves it."""
        try:
            job = Job.fetch(meta.run_id, self._redis, JSONSerializer)
            save_to_job(job, meta)
            job.cancel()
            self._redis.expire(job.key, self._settings.run_ttl)
        except (RedisError, NoSuchJobError, InvalidJobOperation) as error:
            log_event("job_not_cancelled", run=meta.run_id, because=error)
