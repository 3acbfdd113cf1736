"""Stop runs at a user's request, or because enough runs of their batch have failed. For a run that has begun the
request is a file, which the worker that executes it looks for."""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from redis import Redis

from jobs.queue.job import cancel_job, publish_change
from jobs.queue.records import close_unstarted, find_folder, read_record
from jobs.run.batch import BatchRecord, BatchRun
from jobs.run.record import RunRecord
from jobs.run.verdict import STOPPED, Interruption
from runner.errors import Busy, NotPossible, OwnershipLost, RunnerError, StorageUnavailable
from runner.ids import RunId
from runner.log import log_event
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder
from runner.settings import Settings

WRITERS = 16  # threads: most of the time is spent waiting for the disk


class RunStopper:
    """Stops the runs of one project."""

    def __init__(self, settings: Settings, redis: Redis, files: RunFiles) -> None:
        self._settings = settings
        self._redis = redis
        self._files = files

    def stop(self, text: str) -> RunId:
        """Request the end of the run with this ID (text from outside); returns the ID. May be called again.

        A run that has not started is over at once, a running one after at most STOP_GRACE and a moment. Raises
        `NotFound`, `NotPossible` for a run that is over or made by hand, `Busy` and `StorageUnavailable`.
        """
        folder = find_folder(self._files, text)
        try:
            closed = self._stop(folder, STOPPED)
        except TimeoutError:
            raise Busy("The run cannot be stopped: another process holds its record. Try again in a moment.") from None
        except OSError as error:
            raise StorageUnavailable(
                f"The run cannot be stopped: its folder is not usable ({error.strerror})."
            ) from None
        self.cancel_jobs([closed] if closed else [])
        publish_change(self._redis, self._settings.queue_name, folder.run_id)
        return folder.run_id

    def stop_runs(self, batch: BatchRecord, why: Interruption) -> list[RunRecord]:
        """Request the end of those runs of the batch that are not over; if it is not a user who stops them, only of
        those that have not started. Returns those that are over now, whose jobs are still to be cancelled. What cannot
        be stopped now is left to the workers, who know of it by a mark."""
        with ThreadPoolExecutor(WRITERS) as pool:
            return [record for record in pool.map(partial(self._stop_one, why), batch.runs) if record is not None]

    def cancel_jobs(self, records: Iterable[RunRecord]) -> None:
        """Take the jobs of these runs, which had not started, out of the queue."""
        for record in records:
            cancel_job(self._redis, record, self._settings.run_ttl)

    def _stop_one(self, why: Interruption, run: BatchRun) -> RunRecord | None:
        folder = self._files.folder(run.task_id, run.run_id)
        try:
            closed = self._stop(folder, why)
            if closed is None:
                publish_change(self._redis, self._settings.queue_name, run.run_id)
            return closed
        except NotPossible:  # it is over
            pass
        except (RunnerError, OSError) as error:
            log_event("not_stopped", level=logging.WARNING, run=run.run_id, error=error)
        return None

    def _stop(self, folder: RunFolder, why: Interruption) -> RunRecord | None:
        """The record of a run that had not started, and is over now; None if its end was requested."""
        record = _open_record(folder)
        if record.started_at is None:
            try:
                return close_unstarted(folder, record, why, None)  # and from now on no worker will start it
            except OwnershipLost:  # a worker has just begun it, or it is over
                record = _open_record(folder)
        if why is STOPPED and not folder.stop_requested():
            folder.request_stop()
            log_event("stop_requested", run=record.run_id, task=record.task_id)
        return None


def _open_record(folder: RunFolder) -> RunRecord:
    """The record of a run that is not over. Raises `NotPossible` and `OSError`."""
    record = read_record(folder)
    if record is None:
        raise NotPossible(f"Run '{folder.run_id}' was made by hand with the CLI; stop it where it runs.")
    if record.outcome is not None:
        raise NotPossible(f"Run '{folder.run_id}' is over already: it is {record.outcome.state}.")
    return record
