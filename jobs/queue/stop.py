"""Stop runs at a user's request. The request is a file, which the worker that executes the run looks for."""

from contextlib import suppress

from redis import Redis

from jobs.queue.job import cancel_job, publish_change
from jobs.queue.records import close_unstarted, read_record
from jobs.run.record import RunRecord
from jobs.run.verdict import STOPPED
from runner.errors import NotPossible, StorageUnavailable
from runner.ids import RunId
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
        """Request the end of the run with this ID (text from outside); returns the ID. May be called again.

        A run that has not started is over at once, a running one after at most STOP_GRACE and a moment. Raises
        `NotFound`, `NotPossible` for a run that is over or made by hand, and `StorageUnavailable`.
        """
        folder = self._files.find_folder(text)
        try:
            record = self._request_stop(folder)
        except OSError as error:
            raise StorageUnavailable(
                f"The run cannot be stopped: its folder is not usable ({error.strerror})."
            ) from None
        log_event("stop_requested", run=folder.run_id, task=folder.task_id)
        publish_change(self._redis, self._settings.queue_name, folder.run_id)
        if record.started_at is None:  # and from now on no worker will start it
            closed = close_unstarted(folder, record, STOPPED, None)
            cancel_job(self._redis, closed, self._settings.run_ttl)
        return folder.run_id

    def _request_stop(self, folder: RunFolder) -> RunRecord:
        with suppress(FileNotFoundError), folder.lock():
            record = read_record(folder)
            if record is not None and record.outcome is not None:
                raise NotPossible(f"Run '{folder.run_id}' is over already: it is {record.outcome.state}.")
            if record is not None:
                folder.request_stop()
                return record
        raise NotPossible(f"Run '{folder.run_id}' was made by hand with the CLI; stop it where it runs.")
